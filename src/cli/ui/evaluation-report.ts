import type { EvaluatedSet, EvaluationReport } from '../../evaluation/options.ts';
import { writeFileAtomic } from '../../files/atomic.ts';
import { formatTable } from './table.ts';

/** Prints a report as tables, or as JSON. @param json whether to print JSON; a path: the file to write it into as well. */
export async function printReport(report: EvaluationReport, json: boolean | string): Promise<void> {
  for (const file of report.contact_sheets?.files ?? []) process.stderr.write(`contact sheets: ${file}\n`);
  if (json === true) console.log(JSON.stringify(flatReport(report)));
  else console.log(reportTables(report));
  if (typeof json !== 'string') return;
  await writeFileAtomic(json, `${JSON.stringify(flatReport(report), undefined, 2)}\n`);
  process.stderr.write(`report: ${json}\n`);
}

/** One flat object: the metrics, and what was compared. */
function flatReport({ metrics, real, fake, settings, ...extractors }: EvaluationReport) {
  const { nearest_k, ...others } = settings;
  return {
    ...metrics,
    ...(nearest_k === undefined ? {} : { k: nearest_k }),
    real_count: real.count,
    fake_count: fake.count,
    real: real.name,
    fake: fake.name,
    ...(real.skipped ? { real_skipped: real.skipped } : {}),
    ...(fake.skipped ? { fake_skipped: fake.skipped } : {}),
    ...extractors,
    settings: others,
  };
}

function setText({ name, count, skipped }: EvaluatedSet): string {
  return `${name} (${count ?? 'unknown count'}${skipped ? `, ${skipped.length} left out` : ''})`;
}

function reportTables(report: EvaluationReport): string {
  const { metrics, real, fake, extractor, metric_extractors = {}, logits_extractor, settings, warnings = [] } = report;
  const facts = [
    ['real', setText(real)],
    ['fake', setText(fake)],
    ['extractor', extractor.name],
    ['checksum', extractor.checksum || 'unknown'],
  ];
  for (const [metric, { name, checksum }] of Object.entries(metric_extractors))
    facts.push([`of ${metric}`, name], ['checksum', checksum]);
  if (logits_extractor) facts.push(['logits', logits_extractor.name], ['checksum', logits_extractor.checksum]);
  for (const [name, value] of Object.entries(settings)) facts.push([name, String(value)]);
  const tables = [formatTable(['metric', 'value'], Object.entries(metrics)), formatTable(['of', ''], facts)];
  return [...tables, ...warnings.map((warning) => `Warning: ${warning}.`)].join('\n\n');
}
