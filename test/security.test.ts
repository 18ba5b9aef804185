import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, inject, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (name: string) => readFileSync(path.join(root, name), 'utf8');

/** The limits of SECURITY.md, and the constants that they are. The tests of each reader show that it keeps them. */
const limits: readonly [row: RegExp, file: string, constant: string][] = [
  [/image .*128 MiB/, 'src/datasets/images/sources/image-source.ts', 'MAX_ENCODED_BYTES = 128 * 1024 * 1024'],
  [/image .*100 million pixels/, 'src/datasets/images/decode.ts', 'MAX_IMAGE_PIXELS = 100_000_000'],
  [/folder.*20 million entries/, 'src/datasets/images/sources/folder.ts', 'MAX_FILES = 20_000_000'],
  [/tar .*20 million entries/, 'src/datasets/images/sources/tar.ts', 'MAX_ENTRIES = 20_000_000'],
  [/tar .*16 MiB/, 'src/datasets/images/sources/tar.ts', 'MAX_HEADER_BYTES = 16 * 1024 * 1024'],
  [/metadata.*256 MiB/, 'src/datasets/images/sources/metadata.ts', 'MAX_BYTES = 256 * 1024 * 1024'],
  [/IDX and CIFAR.*1 GiB/, 'src/datasets/images/sources/source-files.ts', 'MAX_BYTES = 1024 ** 3'],
  [/parquet.*2 GiB/, 'src/datasets/parquet/table.ts', 'MAX_ROW_GROUP_BYTES = 2 * 1024 ** 3'],
  [/table of points.*512 MiB/, 'src/datasets/points/point-files.ts', 'MAX_BYTES = 2 ** 29 - 2 ** 10'],
  [/table of points.*8,192 columns/, 'src/datasets/points/csv.ts', 'MAX_COLUMNS = 8192'],
  [/\.npz.*1 GiB/, 'src/metrics/frechet/statistics-file.ts', 'MAX_FILE_BYTES = 2 ** 30'],
  [/\.npz.*100 files/, 'src/metrics/frechet/statistics-file.ts', 'MAX_ENTRIES = 100'],
  [/\.npz.*513 MiB/, 'src/metrics/frechet/statistics-file.ts', 'MAX_ARRAY_BYTES = 2 ** 29 + 2 ** 20'],
  [/\.npy.*4 GiB/, 'src/files/npy.ts', 'MAX_FILE_BYTES = 2 ** 32'],
  [/\.npy.*64 KiB/, 'src/files/npy.ts', 'MAX_HEADER_BYTES = 65_536'],
  [/safetensors.*100 MB/, 'src/files/safetensors.ts', 'MAX_HEADER_BYTES = 100_000_000'],
  [/ONNX.*2 GiB/, 'src/graph/onnx/schema.ts', 'MAX_ONNX_BYTES = 2 ** 31 - 1'],
  [/ONNX.*100 deep/, 'src/files/protobuf.ts', 'MAX_DEPTH = 100'],
  [/\.pth.*2 GiB/, 'src/files/torch/file.ts', 'MAX_FILE_BYTES = 2 ** 31'],
  [/\.pth.*64 MiB/, 'src/files/torch/file.ts', 'MAX_PICKLE_BYTES = 2 ** 26'],
  [/\.pth.*4 million/, 'src/files/pickle.ts', 'MAX_INSTRUCTIONS = 2 ** 22'],
  [/JSON.*16 MiB/, 'src/files/json.ts', 'DEFAULT_MAX_BYTES = 16 * 1024 * 1024'],
  [/JSON.*200 deep/, 'src/files/json.ts', 'MAX_DEPTH = 200'],
  [/--config.*64 KiB/, 'src/cli/options/config-file.ts', 'MAX_CONFIG_BYTES = 64 * 1024'],
  [/zip file.*2 GiB/, 'src/files/zip.ts', 'MAX_BYTES = 2 * 1024 ** 3'],
  [/zip file.*10,000/, 'src/files/zip.ts', 'MAX_FILES = 10_000'],
  [/download.*4 GiB/, 'src/files/download.ts', 'MAX_BYTES = 4 * 1024 ** 3'],
  [/listing.*10,000.*200,000/, 'src/hub/repository.ts', 'MAX_FILES = { model: 10_000, dataset: 200_000 }'],
];

it('SECURITY.md states the limits that the readers have', () => {
  const rows = read('SECURITY.md').match(/^\|.*\|$/gm) ?? [];
  for (const [row, file, constant] of limits) {
    expect(
      rows.some((line) => row.test(line)),
      `${row}`,
    ).toBe(true);
    expect(read(file), file).toContain(constant);
  }
  // Every row but the two of the header has a limit here.
  expect(rows.slice(2).filter((line) => !limits.some(([row]) => row.test(line)))).toEqual([]);
});

it('onnxruntime sends nothing to its makers: it does not even give the machine a number', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'iso-telemetry-'));
  // Where one of these is set, onnxruntime is silent by itself.
  const { ORT_DISABLE_TELEMETRY, CI, ORT_RUNNING_UNIT_TESTS, ...env } = process.env;
  // `doctor` makes a session for each device, in this process and in others.
  const args = [path.join(inject('build'), 'bin/iso-diffusion.js'), 'doctor', '--json'];
  const { status, stdout } = spawnSync(process.execPath, args, {
    cwd: folder,
    encoding: 'utf8',
    env: { ...env, HOME: folder, XDG_CACHE_HOME: folder },
  });
  expect(status).toBe(0);
  expect(stdout).toContain('"cpu"');
  expect(readdirSync(folder, { recursive: true }).filter((file) => /onnxruntime|microsoft/i.test(`${file}`))).toEqual(
    [],
  );
  rmSync(folder, { recursive: true, force: true });
});
