import type { Command } from 'commander';
import { InvalidArgumentError } from '../../errors.ts';
import { imageStatistics } from '../../evaluation/image-statistics.ts';
import { mergeStatistics, readStatistics, writeStatistics } from '../../metrics/index.ts';
import * as z from '../../zod.ts';
import { addOptions, listOption, option, readSettings, type Settings } from '../options/command-options.ts';
import { deviceOption, extractorOptions, namedExtractor, parsedShare, shareOption } from '../options/shared-options.ts';
import { downloadBar, printWarning, withProgress } from '../ui/progress.ts';

const { cache_dir: _, ...featureOptions } = extractorOptions;
const options = {
  images: option('--images <source>', z.optional(z.string()), 'a folder or file of images, or a named set'),
  split: option('--split <name>', z.optional(z.string()), 'train (default), validation, test, or all'),
  merge: listOption(
    'files',
    '--merge <files...>',
    z.optional(z.array(z.string())),
    'merge the statistics of these .npz files instead',
  ),
  share: shareOption('only the i-th of n consecutive parts, such as 1/4'),
  ...featureOptions,
  device: deviceOption(),
  out: option('--out <file>', z.string('name an .npz file to write'), 'the .npz file to write'),
};
type StatisticsSettings = Settings<typeof options>;

export function defineStatistics(command: Command): void {
  command.addHelpText(
    'after',
    `
Examples:
  iso-diffusion statistics --images photos --extractor inception --out photos.npz
  iso-diffusion statistics --images digits --extractor raw-pixels --share 1/2 --out part-1.npz
  iso-diffusion statistics --merge part-1.npz part-2.npz --out digits.npz
  iso-diffusion evaluate --real digits.npz --fake runs/digits/pipeline --metrics fid --extractor raw-pixels

Parts can be computed by several processes or machines. Merged, they equal the result of one pass.`,
  );
  addOptions(command, options).action(async (flags) => writeImageStatistics(await readSettings(options, flags)));
}

async function writeImageStatistics(settings: StatisticsSettings): Promise<void> {
  const { images, merge, out } = settings;
  if (!out.endsWith('.npz')) throw new InvalidArgumentError(`--out '${out}' must end in .npz`);
  if ((images === undefined) === (merge === undefined))
    throw new InvalidArgumentError('give either --images or --merge');
  const { statistics, origin } = merge ? await merged(merge) : await computed(images ?? '', settings);
  await writeStatistics(out, statistics);
  console.log(`${out}: ${statistics.count} images, ${statistics.dims} features, ${origin}`);
}

async function merged(files: readonly string[]) {
  const statistics = mergeStatistics(...(await Promise.all(files.map(readStatistics))));
  return { statistics, origin: `merged from ${files.length} files` };
}

async function computed(images: string, settings: StatisticsSettings) {
  const { extractor_options, ...how } = namedExtractor({ ...settings, cache_dir: undefined });
  const { statistics, extractor } = await downloadBar((progress_callback) =>
    withProgress('statistics', (watch) =>
      imageStatistics({
        images,
        split: settings.split,
        on_warning: printWarning,
        share: parsedShare(settings.share),
        ...how,
        extractor_options: { ...extractor_options, progress_callback },
        device: settings.device,
        ...watch,
      }),
    ),
  );
  return { statistics, origin: `extractor ${extractor.name}, checksum ${extractor.checksum}` };
}
