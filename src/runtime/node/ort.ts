// A file of its own: bundlers leave a package out by the name in an import, which `#ort` is not.
export * from 'onnxruntime-node';
