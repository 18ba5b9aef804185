import type { Command } from 'commander';
import { convertExtractor } from '../../evaluation/extractors/convert-extractor.ts';
import { extractorsFolder } from '../../evaluation/extractors/published-extractors.ts';
import * as z from '../../zod.ts';
import { addOptions, option, readSettings, type Settings } from '../options/command-options.ts';
import { formatTable } from '../ui/table.ts';

const options = {
  weights: option('--weights <file>', z.string('name the .pth or .safetensors file'), 'the published weights'),
  output: option('--output <file>', z.optional(z.string()), 'the .onnx file (default: in the extractors folder)'),
  json: option('--json', z._default(z.boolean(), false), 'print JSON'),
};

export function defineConvertExtractor(command: Command): void {
  command.addHelpText(
    'after',
    `
Examples:
  iso-diffusion convert-extractor --weights pt_inception-2015-12-05-6726825d.pth
  iso-diffusion convert-extractor --weights vgg16-397923af.safetensors --output vgg16.onnx

Without --output the model is written to ${extractorsFolder()} (ISO_DIFFUSION_EXTRACTORS), where evaluate finds it.
evaluate fetches and converts the published files by itself. Of a .pth file, nothing is executed.`,
  );
  addOptions(command, options).action(async (flags) => convert(await readSettings(options, flags)));
}

async function convert({ weights, output, json }: Settings<typeof options>): Promise<void> {
  const converted = await convertExtractor(weights, output);
  if (json) {
    console.log(JSON.stringify(converted));
    return;
  }
  const rows = Object.entries({ ...converted, layers: converted.layers.join(', ') });
  console.log(formatTable(['property', 'value'], rows));
}
