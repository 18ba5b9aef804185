import { readFileSync } from 'node:fs';
import os from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { type MpiReport, mpiReport } from '../../distributed/world.ts';
import { DeviceError, errorText } from '../../errors.ts';
import { environment } from '../../experiments/jobs/job.ts';
import { AUTO_ON_POINTS, type DeviceReport, deviceReports, resolveDevice } from '../../runtime/device.ts';
import * as z from '../../zod.ts';
import { addOptions, option, readSettings, type Settings } from '../options/command-options.ts';
import { formatTable } from '../ui/table.ts';

const options = { json: option('--json', z._default(z.boolean(), false), 'print JSON') };

export function defineDoctor(command: Command): void {
  command.addHelpText('after', '\nExamples:\n  iso-diffusion doctor\n  iso-diffusion doctor --json');
  addOptions(command, options).action(async (flags) => doctor(await readSettings(options, flags)));
}

async function doctor({ json }: Settings<typeof options>): Promise<void> {
  const { package_version, node, platform } = environment();
  const report = {
    versions: {
      node,
      'iso-diffusion': package_version,
      'onnxruntime-node': installedVersion('onnxruntime-node'),
      '@huggingface/transformers': installedVersion('@huggingface/transformers'),
    },
    mpi: mpiReport(),
    machine: { platform, cpu_cores: os.availableParallelism(), memory_gib: Math.round(os.totalmem() / 2 ** 30) },
    devices: await deviceReports(),
    auto: {
      images: await resolveDevice('auto', { samples: 'images', warn: () => undefined }).catch(errorText),
      points: await resolveDevice('auto', { samples: 'points' }),
      reason: AUTO_ON_POINTS,
    },
  };
  if (json) console.log(JSON.stringify(report, undefined, 2));
  else console.log(asText(report));
  if (!report.devices.some(({ device, available }) => device === 'cpu' && available))
    throw new DeviceError('the cpu device does not work, and nothing runs without it');
}

function asText({ versions, machine, devices, auto, mpi }: Report): string {
  const deviceLines = devices.map(({ device, available, advice, tf32, float16, ...gpus }) => {
    if (!available) return `  ${device}: not available. ${advice}`;
    const lacking = device === 'webgpu' ? ": its adapter lacks 'shader-f16'" : '';
    return `  ${device}: available${gpuText(gpus)}${tf32Text(tf32)}${float16 ? ', also in fp16' : `, but not in fp16${lacking}`}`;
  });
  const forPoints = auto.points === auto.images ? '' : ` for images, ${auto.points} for points: ${auto.reason}`;
  deviceLines.push(`  auto: ${auto.images}${forPoints}`);
  return [
    formatTable(['package', 'version'], Object.entries(versions)),
    formatTable(
      ['machine', ''],
      Object.entries(machine).map(([name, value]) => [name, String(value)]),
    ),
    `devices\n${deviceLines.join('\n')}`,
    `mpi: ${mpi.library ?? mpi.advice}${mpi.size > 1 ? `, rank ${mpi.rank} of ${mpi.size}` : ''}`,
  ].join('\n\n');
}

function gpuText({ device_count, device_id }: Pick<DeviceReport, 'device_count' | 'device_id'>): string {
  if (device_id === undefined) return device_count === undefined ? '' : `, ${device_count} GPUs, fewer than ranks here`;
  return `, GPU ${device_id}${device_count === undefined ? '' : ` of ${device_count}`} (--device-id)`;
}

function tf32Text(tf32: boolean | undefined): string {
  if (tf32 === undefined) return '';
  return tf32
    ? ', float32 is multiplied in TF32 (--tf32 false: in full)'
    : ', float32 is multiplied in full (--tf32 true: in TF32)';
}

interface Report {
  readonly versions: Readonly<Record<string, string>>;
  readonly machine: Readonly<Record<string, string | number>>;
  readonly mpi: MpiReport;
  readonly devices: Awaited<ReturnType<typeof deviceReports>>;
  readonly auto: Readonly<Record<'images' | 'points' | 'reason', string>>;
}

/** Not every package exports its package.json, so this looks for the folder of the package's module. */
function installedVersion(name: string): string {
  try {
    const file = fileURLToPath(import.meta.resolve(name));
    const root = file.slice(0, file.lastIndexOf(`node_modules/${name}/`) + `node_modules/${name}/`.length);
    return (JSON.parse(readFileSync(`${root}package.json`, 'utf8')) as { version: string }).version;
  } catch {
    return 'not installed';
  }
}
