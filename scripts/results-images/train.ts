import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import type { ImageSet } from '../../src/datasets/index.ts';
import { ConfigError, IsoDiffusionError } from '../../src/errors.ts';
import { readJsonFile } from '../../src/files/json.ts';
import { exists } from '../../src/files/regular-file.ts';
import { CELL_FILE, type Cell, type CellRecord, cellName, cellRecordSchema, type StudySettings } from './study.ts';

/** Some cells ended without a result. */
export class CellsFailedError extends IsoDiffusionError {}

/** The folder of a cell. */
export function cellFolder(output: string, cell: Cell): string {
  return path.join(output, 'cells', cellName(cell));
}

/**
 * What a finished cell holds; undefined for one that is not.
 *
 * @throws {ConfigError} when it was made with other settings, or of other images.
 */
export async function finishedCell(
  output: string,
  cell: Cell,
  settings: StudySettings,
  { fingerprint }: Pick<ImageSet, 'fingerprint'>,
): Promise<CellRecord | undefined> {
  const file = path.join(cellFolder(output, cell), CELL_FILE);
  if (!(await exists(file))) return undefined;
  const record = await readJsonFile(file, cellRecordSchema);
  if (record.fingerprint !== fingerprint)
    throw new ConfigError(`${file} is of other images than ${cell.set} has now: choose another --output`);
  if (!isDeepStrictEqual(record.settings, settings))
    throw new ConfigError(
      `${file} was made with other settings, ${JSON.stringify(record.settings)}: give the same ones, or choose another --output`,
    );
  return record;
}

/**
 * Runs cells in processes of their own, `jobs` at a time, in the given order. One that fails does not stop the others.
 *
 * @param script what each process runs, with the arguments of this one, `--only PART` and `--cell NAME`. It ends when this process does.
 * @throws {CellsFailedError} that names the cells without a result.
 */
export async function runCells(
  cells: readonly Cell[],
  part: 'train' | 'measure',
  jobs: number,
  script: string,
): Promise<void> {
  const failed: string[] = [];
  // One iterator for all: each cell is taken once.
  const queue = cells.values();
  const takeCells = async () => {
    for (const cell of queue) {
      const name = cellName(cell);
      const child: ChildProcess = fork(script, [...process.argv.slice(2), '--only', part, '--cell', name]);
      const [code, signal] = await once(child, 'exit');
      if (code !== 0) failed.push(name);
      console.log(`${name}: ${code === 0 ? `${part} done` : `ended by ${signal ?? `exit code ${code}`}`}`);
    }
  };
  await Promise.all(Array.from({ length: jobs }, takeCells));
  if (failed.length > 0)
    throw new CellsFailedError(
      `${failed.length} of ${cells.length} cells have no result: ${failed.join(', ')}. The same command goes on with them`,
    );
}
