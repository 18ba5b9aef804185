import { parseDocument } from 'yaml';

/*
 * Results on a model card: in its header as the Hub's `model-index`, which it shows beside the model
 * (https://huggingface.co/docs/hub/model-cards), and as a table.
 */

/** Results of an evaluation, for a model card. */
export interface CardResults {
  /** The metrics by name. */
  readonly metrics: Readonly<Record<string, number>>;
  /** What they were computed with, such as the extractor and the numbers of samples; default nothing is said. */
  readonly args?: Readonly<Record<string, string | number>> | undefined;
  /** The real samples; default: the data set that the card names. */
  readonly dataset?: CardDataset | undefined;
}

/** A data set, for a model card. */
export interface CardDataset {
  /** A name or a path, of which only the last part is published: the rest says something about the machine. */
  readonly name: string;
  /** `owner/name`, where it is one of the Hugging Face Hub; default: it is not. */
  readonly hubId?: string | undefined;
}

/** What a model card says of results beside them. */
interface ModelFacts {
  /** The name of the model. */
  readonly name: string;
  readonly task: string;
  readonly dataset: CardDataset;
}

/** Results in the form of the Hub's `model-index`. Every result has the arguments: figures of different ones do not compare. */
export function modelIndex({ metrics, args, dataset: real }: CardResults, { name, task, dataset }: ModelFacts) {
  const of = plain(publicName(real ?? dataset));
  return [
    {
      name: plain(name),
      results: [
        {
          task: { type: task },
          dataset: { name: of, type: of },
          metrics: Object.entries(metrics).map(([type, value]) => ({
            ...{ type, value, name: type },
            ...(args ? { args: { ...args } } : {}),
          })),
        },
      ],
    },
  ];
}

/** Text that is a name in every program that reads the header. */
function plain(text: string): string {
  return text.replaceAll(/[^\w ./-]+/g, '-');
}

/** The table of the results below its heading. */
export function metricsSection({ metrics, args = {} }: CardResults): string {
  return `## Metrics\n\n${table({ ...metrics, ...args })}`;
}

/**
 * A model card with results. Those that it had before are replaced. The rest of it stays as it is, also where a person has
 * written it.
 *
 * @param card the text of a README.md; '' makes one.
 */
export function withResults(card: string, results: CardResults, { name, task }: Omit<ModelFacts, 'dataset'>): string {
  const [header = '', yaml = ''] = /^---[ \t]*\r?\n(.*?\n)?---[ \t]*(\r?\n|$)/s.exec(card) ?? [];
  const document = parseDocument(yaml);
  const datasets: unknown = document.toJS()?.datasets;
  const trainedOn = Array.isArray(datasets) && typeof datasets[0] === 'string' ? datasets[0] : 'unknown';
  const index = modelIndex(results, { name, task, dataset: { name: trainedOn, hubId: trainedOn } });
  document.set('model-index', document.createNode(index));
  const section = metricsSection(results);
  const body = card.slice(header.length);
  const former = /^## Metrics\n.*?(?=^## |(?![\s\S]))/ms;
  const before = /^## Use$/m;
  const changed = former.test(body)
    ? body.replace(former, () => `${section}\n\n`)
    : before.test(body)
      ? body.replace(before, () => `${section}\n\n## Use`)
      : `${body.trimEnd()}\n\n${section}\n`;
  return `---\n${document.toString()}---\n\n${changed.trim()}\n`;
}

/** A Markdown table of names and values. */
export function table(rows: Readonly<Record<string, unknown>>): string {
  const lines = Object.entries(rows)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `| ${escaped(name)} | ${escaped(String(value))} |`);
  return ['| | |', '|---|---|', ...lines].join('\n');
}

/** A data set as it may be published. */
export function publicName({ name, hubId }: CardDataset): string {
  return hubId ?? name.split(/[\\/]/).filter(Boolean).at(-1) ?? name;
}

/** Text in which the marks of Markdown and HTML are escaped. */
export function escaped(text: string): string {
  return text.replaceAll(/[\r\n]+/g, ' ').replaceAll(/[\\`*_{}[\]<>()#+!|~&]/g, (mark) => `&#${mark.charCodeAt(0)};`);
}
