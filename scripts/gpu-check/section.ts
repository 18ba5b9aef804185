import type { DeviceReport } from '../../src/runtime/device.ts';

/** What multiplies on a device: full float32, TF32 (cuda alone), or float16. */
const PRECISIONS = ['float32', 'TF32', 'float16'];

/** The setting of a run in a precision. */
export const mixedPrecision = (precision: string) => (precision === 'float16' ? 'fp16' : 'no');

/** What one run of a section measures, in a process of its own: TF32 is a setting of the process, and a crash ends only it. */
export interface Case {
  readonly section: string;
  readonly device: DeviceReport['device'];
  /** One of ours, or of torch's. */
  readonly precision: string;
  /** Samples of a step or of a call. */
  readonly batch: number;
  /** A small model and few steps, for a trial on a machine without a GPU. */
  readonly quick: boolean;
  /** The folder of the project, or of the kit, which has the same layout; ends in '/'. */
  readonly root: string;
  /** Where files go. */
  readonly output: string;
}

/** What a section chooses of its cases. */
export type Choice = Pick<Case, 'device' | 'precision' | 'batch'>;

/** One line of the report. */
export interface Row {
  /** What was measured, with its unit: 'a step, ms'. */
  readonly what: string;
  readonly value: number | string;
  /** The value must not be above it. */
  readonly limit?: number | undefined;
}

export interface Section {
  readonly title: string;
  /** How it was measured, in a sentence or two. */
  readonly note: string;
  readonly cases: (devices: readonly DeviceReport['device'][], quick: boolean) => readonly Choice[];
  readonly run: (given: Case) => Promise<Row[]>;
}

/** Each GPU in each precision that it has. */
export function everyPrecision(devices: readonly DeviceReport['device'][], batch: number): Choice[] {
  return devices.flatMap((device) =>
    PRECISIONS.filter((precision) => precision !== 'TF32' || device === 'cuda').map((precision) => ({
      device,
      precision,
      batch,
    })),
  );
}
