/**
 * The sinusoidal encodings of t = 1..rows (Vaswani et al. 2017, section 3.5) as rows x dim, row-major: entry 2i of a row
 * is sin(t / 10000^(2i/dim)), entry 2i+1 the cosine of the same angle. Row k encodes t = k + 1: timesteps count from 0
 * here, as in diffusers, while the paper's t counts from 1.
 */
export function sinusoidalTable(rows: number, dim: number): Float64Array {
  const table = new Float64Array(rows * dim);
  for (let j = 0; j < dim; j++) {
    const frequency = 10_000 ** (-(j - (j % 2)) / dim);
    const wave = j % 2 === 0 ? Math.sin : Math.cos;
    for (let row = 0; row < rows; row++) table[row * dim + j] = wave((row + 1) * frequency);
  }
  return table;
}
