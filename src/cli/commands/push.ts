import path from 'node:path';
import type { Command } from 'commander';
import { isPointFile } from '../../datasets/points/point-files.ts';
import { ConfigError } from '../../errors.ts';
import { readJsonFile } from '../../files/json.ts';
import { exists } from '../../files/regular-file.ts';
import type { CardResults } from '../../hub/card-results.ts';
import { HUB_ID } from '../../hub/repository.ts';
import * as z from '../../zod.ts';
import { addOptions, option, readSettings, type Settings } from '../options/command-options.ts';
import { hubOptions, push, pushTarget } from '../options/hub-options.ts';
import { folderNamed } from '../options/saved-model.ts';

const options = {
  model: option('--model <folder>', z.string('name the folder of a pipeline, or of a run'), 'the saved pipeline'),
  metrics: option(
    '--metrics <report.json>',
    z.optional(z.string()),
    'report of evaluate --json: its metrics go on the model card that is sent',
  ),
  revision: option('--revision <branch>', z.optional(z.string()), 'branch to commit to (default: main)'),
  commit_message: option('--commit-message <text>', z.optional(z.string()), 'title of the commit'),
  ...hubOptions,
};

export function definePush(command: Command): void {
  command.addHelpText(
    'after',
    `
Examples:
  iso-diffusion push --model runs/digits --hub-model-id me/digits --dry-run
  iso-diffusion evaluate --real digits --fake runs/digits/pipeline --extractor raw-pixels --json report.json
  iso-diffusion push --model runs/digits --hub-model-id me/digits --metrics report.json --hub-private-repo

Every file of the pipeline's folder is sent, but hidden ones. The token comes from HF_TOKEN, and needs write access.
HF_ENDPOINT is the address of another Hub. In the examples of the card that is sent the repository stands for the folder.`,
  );
  addOptions(command, options).action(async (flags) => pushModel(await readSettings(options, flags)));
}

async function pushModel(settings: Settings<typeof options>): Promise<void> {
  const { model, metrics, revision, commit_message } = settings;
  // A full path is never a name of the Hub.
  const folder = await folderNamed(path.resolve(model));
  const results = metrics === undefined ? undefined : await readReport(metrics);
  const target = await pushTarget(model, settings);
  console.log(await push(folder, { ...target, options: { ...target.options, revision, commit_message, results } }));
}

const named = z.union([
  z.string(),
  z.pipe(
    z.object({ name: z.string() }),
    z.transform(({ name }) => name),
  ),
]);
const reportSchema = z.looseObject({
  real: z.string(),
  real_count: z.nullish(z.number()),
  fake_count: z.nullish(z.number()),
  k: z.optional(z.number()),
  extractor: z.optional(named),
  settings: z.optional(z.record(z.string(), z.unknown())),
});

/** The metrics of a report of `evaluate --json`, and what they were computed with. */
async function readReport(file: string): Promise<CardResults> {
  const { real, real_count, fake_count, k, extractor, settings: _, ...others } = await readJsonFile(file, reportSchema);
  const metrics = Object.fromEntries(
    Object.entries(others).filter((entry): entry is [string, number] => typeof entry[1] === 'number'),
  );
  if (Object.keys(metrics).length === 0)
    throw new ConfigError(`${file} has no metrics: give a report that evaluate --json has written`);
  const given = { extractor, real_count, fake_count, nearest_k: k };
  const args = Object.fromEntries(
    Object.entries(given).filter((entry): entry is [string, string | number] => entry[1] != null),
  );
  // A folder such as photos/train looks like a name of the Hub.
  const isOnHub = HUB_ID.test(real) && !isPointFile(real) && !(await exists(real));
  return { metrics, args, dataset: { name: real, hubId: isOnHub ? real : undefined } };
}
