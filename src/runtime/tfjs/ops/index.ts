import './conv.ts';
import './elementwise.ts';
import './indexing.ts';
import './matmul.ts';
import './normalization.ts';
import './reduce.ts';
import './resample.ts';
import './shape.ts';
