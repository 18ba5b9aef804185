import { InvalidArgumentError } from '../../errors.ts';
import {
  type PathLengthOptions,
  type PathLengthReport,
  perceptualPathLength,
} from '../../evaluation/path-length/path-length.ts';
import { INTERPOLATIONS } from '../../evaluation/path-length/path-steps.ts';
import { writeFileAtomic } from '../../files/atomic.ts';
import * as z from '../../zod.ts';
import { givenFlag, grouped, option, type Settings } from '../options/command-options.ts';
import { downloadBar, withProgress } from '../ui/progress.ts';
import { formatTable } from '../ui/table.ts';

const percentile = z.optional(z.number());

/** The options of `perceptualPathLength`, which checks their values, under torch-fidelity's names. */
export const pathLengthOptions = grouped('Perceptual path length:', {
  ppl: option('--ppl', z.optional(z.boolean()), 'measure this of the pipeline --fake alone, without --real'),
  ppl_lpips_weights: option(
    '--ppl-lpips-weights <file>',
    z.optional(z.string()),
    "the heads of LPIPS: torch-fidelity's weights-vgg16-lpips.pth; --ppl needs it",
  ),
  ppl_epsilon: option('--ppl-epsilon <value>', z.optional(z.number()), 'step between two latents (default: 0.0001)'),
  ppl_reduction: option(
    '--ppl-reduction <mean|none>',
    z.optional(z.enum(['mean', 'none'])),
    'none: also every distance, in --json (default: mean)',
  ),
  ppl_sample_similarity_resize: option(
    '--ppl-sample-similarity-resize <pixels>',
    z.optional(z.number()),
    'side that images are resized to (default: 64)',
  ),
  ppl_sample_similarity_dtype: option(
    '--ppl-sample-similarity-dtype <uint8|float32>',
    z.optional(z.enum(['uint8', 'float32'])),
    'compare bytes, or images as the model gives them (default: uint8)',
  ),
  ppl_discard_percentile_lower: option(
    '--ppl-discard-percentile-lower <percent>',
    percentile,
    'discard distances below (default: 1)',
  ),
  ppl_discard_percentile_higher: option(
    '--ppl-discard-percentile-higher <percent>',
    percentile,
    'discard distances above (default: 99)',
  ),
  ppl_z_interp_mode: option(
    `--ppl-z-interp-mode <${INTERPOLATIONS.join('|')}>`,
    z.optional(z.enum(INTERPOLATIONS)),
    'how a step is made (default: lerp)',
  ),
});

type PathLengthSettings = Settings<typeof pathLengthOptions>;

/** @throws {InvalidArgumentError} for a flag of the path length without --ppl. */
export function refuseWithoutPpl(settings: PathLengthSettings): void {
  const { ppl: _, ...others } = pathLengthOptions;
  const flag = givenFlag(settings, Object.keys(others) as (keyof typeof others)[]);
  if (flag !== undefined) throw new InvalidArgumentError(`${flag} is for --ppl: add that`);
}

/** Measures the pipeline `fake`, and prints or writes what `json` says. */
export async function printPathLength(
  settings: PathLengthSettings & { readonly fake: string; readonly json: boolean | string },
  drawing: Pick<PathLengthOptions, 'num_samples' | 'batch_size' | 'seed' | 'device' | 'generation'>,
): Promise<void> {
  const { fake, json, ppl_lpips_weights = '' } = settings;
  if (ppl_lpips_weights === '')
    throw new InvalidArgumentError(
      "--ppl needs --ppl-lpips-weights, the file of the heads of LPIPS: torch-fidelity's weights-vgg16-lpips.pth",
    );
  const report = await downloadBar((progress_callback) =>
    withProgress('path length', (watch) =>
      perceptualPathLength(fake, {
        ...drawing,
        ppl_lpips_weights,
        ppl_epsilon: settings.ppl_epsilon,
        ppl_reduction: settings.ppl_reduction,
        ppl_sample_similarity_resize: settings.ppl_sample_similarity_resize,
        ppl_sample_similarity_dtype: settings.ppl_sample_similarity_dtype,
        ppl_discard_percentile_lower: settings.ppl_discard_percentile_lower,
        ppl_discard_percentile_higher: settings.ppl_discard_percentile_higher,
        ppl_z_interp_mode: settings.ppl_z_interp_mode,
        extractor_options: { progress_callback },
        ...watch,
      }),
    ),
  );
  const flat = { ...report, fake };
  if (json === true) console.log(JSON.stringify(flat));
  else console.log(tables(report, fake));
  if (typeof json !== 'string') return;
  await writeFileAtomic(json, `${JSON.stringify(flat, undefined, 2)}\n`);
  process.stderr.write(`report: ${json}\n`);
}

function tables(report: PathLengthReport, fake: string): string {
  const { perceptual_path_length_mean, perceptual_path_length_std, lpips_sha256, settings } = report;
  const values = Object.entries({ perceptual_path_length_mean, perceptual_path_length_std });
  const facts = Object.entries({ fake, lpips_sha256, ...settings }).map(
    ([name, value]) => [name, String(value)] as const,
  );
  return [formatTable(['metric', 'value'], values), formatTable(['of', ''], facts)].join('\n\n');
}
