# Makes the files beside it (Python 3.11, numpy 2.4): two images as CIFAR's Python version holds them.
import os
import pickle

import numpy as np

data = np.zeros((2, 3072), np.uint8)
data[0, :1024], data[0, 1024:2048], data[0, 2048:] = 11, 22, 33
data[1] = np.arange(3072) % 256


def write(name, value, protocol):
    with open(name, 'wb') as file:
        pickle.dump(value, file, protocol=protocol)


for protocol in (2, 4, 5):
    batch = {'batch_label': 'x', 'labels': [6, 9], 'data': data, 'filenames': ['a.png', 'b.png']}
    write(f'protocol-{protocol}', batch, protocol)
write('hundred', {b'fine_labels': [19, 99], b'coarse_labels': [11, 13], b'data': data}, 4)


class Hostile:
    def __reduce__(self):
        return os.system, ('touch /tmp/pwned',)


write('hostile', {'labels': [1], 'data': Hostile()}, 2)


def text(value):
    return b'U' + bytes([len(value)]) + value


# The published files were written by Python 2's cPickle, protocol 2.
with open('python-2', 'wb') as file:
    file.write(b'\x80\x02}q\x01(' + text(b'batch_label') + b'q\x02' + text(b'training batch 1 of 5') + b'q\x03')
    file.write(text(b'labels') + b'q\x04]q\x05(K\x06K\x09e' + text(b'data') + b'q\x06')
    file.write(b'cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85' + text(b'b'))
    file.write(b'\x87Rq\x09(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\nq\x0a' + text(b'u1') + b'K\x00K\x01\x87Rq\x0b(K\x03')
    file.write(text(b'|') + b'NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T' + (6144).to_bytes(4, 'little'))
    file.write(data.tobytes() + b'tb' + text(b'filenames') + b'q\x0c]q\x0d(' + text(b'a.png') + b'q\x0e')
    file.write(text(b'b.png') + b'q\x0feu.')
