import { readFileSync } from 'node:fs';
import path from 'node:path';
import {
  Application,
  CommentTag,
  type Context,
  Converter,
  type DeclarationReflection,
  PageEvent,
  type ProjectReflection,
  ReflectionKind,
  SignatureReflection,
} from 'typedoc';

const { exports } = JSON.parse(readFileSync('package.json', 'utf8')) as {
  exports: Record<string, { types: string } | string>;
};

/** The source of each entry of the package, and the name that a program imports. */
const ENTRIES = new Map(
  Object.entries(exports).flatMap(([name, entry]) =>
    typeof entry === 'string'
      ? []
      : [
          [
            path.resolve(entry.types.replace(/^\.\/dist\/(.*)\.d\.ts$/, 'src/$1.ts')),
            path.posix.join('iso-diffusion', name),
          ],
        ],
  ),
);

/**
 * Writes a page for each class, function, type and constant that the package exports. Fails where one of their members lacks
 * a comment, or where a comment links to nothing.
 */
export async function writeReference(folder: string): Promise<void> {
  const app = await Application.bootstrapWithPlugins({
    plugin: ['typedoc-plugin-markdown'],
    entryPoints: [...ENTRIES.keys()],
    tsconfig: 'tsconfig.json',
    // `npm run typecheck` checks the sources, with the TypeScript of the project.
    skipErrorChecking: true,
    outputs: [{ name: 'markdown', path: folder }],
    basePath: 'src',
    readme: 'none',
    name: 'API reference',
    disableGit: true,
    sourceLinkTemplate: 'https://github.com/iso-diffusion/iso-diffusion/blob/main/src/{path}#L{line}',
    excludeExternals: true,
    excludePrivate: true,
    excludeProtected: true,
    excludeInternal: true,
    // The classes of errors, which become links to their explanations.
    preservedTypeAnnotationTags: ['@throws'],
    categorizeByGroup: false,
    defaultCategory: 'Other',
    // The comment of `Attribute` says what its members are.
    intentionallyNotDocumented: ['kind', 'value', 'value.__type.data'].map(
      (member) => `iso-diffusion/graph.Attribute.__type.${member}`,
    ),
    validation: { notExported: false, invalidLink: true, notDocumented: true, rewrittenLink: true },
    treatWarningsAsErrors: true,
    treatValidationWarningsAsErrors: true,
    ...MARKDOWN,
  });
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, arrange);
  app.renderer.on(PageEvent.END, (page: PageEvent) => {
    // The one heading that is left without the anchor to which others link.
    if (page.contents)
      page.contents = page.contents.replace(/^### Constructor$/m, '### Constructor {#member-constructor}');
  });
  const project = await app.convert();
  if (project === undefined) throw new Error('typedoc could not read the sources');
  app.validate(project);
  if (app.logger.hasErrors() || app.logger.hasWarnings()) throw new Error('the API reference is incomplete: see above');
  await app.generateOutputs(project);
}

/** Options of typedoc-plugin-markdown, which typedoc does not know by type. */
const MARKDOWN: object = {
  entryFileName: 'index',
  hidePageHeader: true,
  // VitePress makes other anchors of headings than the plugin, and a member may be called `parameters` like a heading.
  useCustomAnchors: true,
  anchorPrefix: 'member-',
  indexFormat: 'table',
  expandObjects: true,
  pageTitleTemplates: { module: '{name}' },
};

/** Names the entries as programs import them, and puts what they export into one category per folder of the sources. */
function arrange({ project }: Context): void {
  for (const module of project.getChildrenByKind(ReflectionKind.Module)) {
    module.name = ENTRIES.get(fileOf(module)) ?? module.name;
    for (const child of module.children ?? []) {
      const { comment = child.signatures?.[0]?.comment } = child;
      comment?.blockTags.push(new CommentTag('@category', [{ kind: 'text', text: categoryOf(fileOf(child)) }]));
    }
  }
  for (const { comment, parameters = [] } of signaturesOf(project)) {
    for (const { tag, typeAnnotation, content } of comment?.blockTags ?? []) {
      if (tag === '@throws' && typeAnnotation)
        content.unshift({ kind: 'text', text: `${linksToErrors(typeAnnotation)} ` });
    }
    // An object that is taken apart where it is declared.
    for (const parameter of parameters) parameter.name = parameter.name.replace(/^__namedParameters$/, 'options');
  }
}

function signaturesOf(project: ProjectReflection): SignatureReflection[] {
  const kinds = ReflectionKind.CallSignature | ReflectionKind.ConstructorSignature;
  return project.getReflectionsByKind(kinds).filter((reflection) => reflection instanceof SignatureReflection);
}

/** `{GraphError | Error}` as a link to the page of errors for each class of this package. */
function linksToErrors(annotation: string): string {
  return annotation
    .replace(/[{}]/g, '')
    .replace(/\w+/g, (name) =>
      OF_JAVASCRIPT.has(name) ? `\`${name}\`` : `[\`${name}\`](/errors.md#${name.toLowerCase()})`,
    );
}

const OF_JAVASCRIPT = new Set(['Error', 'RangeError', 'SyntaxError', 'Failure']);

const fileOf = ({ sources }: DeclarationReflection): string => sources?.[0]?.fullFileName ?? '';

/** The category of what a file of `src/` exports: its folder, and for graphs the one in it. */
function categoryOf(file: string): string {
  const folders = path.relative('src', file).split(/[/.]/);
  const [room = '', inner = ''] = folders;
  const found = room === 'graph' ? OF_GRAPHS[inner] : OF_ROOMS[room];
  return found ?? room.charAt(0).toUpperCase() + room.slice(1);
}

const OF_ROOMS: Readonly<Record<string, string>> = {
  nn: 'Layers',
  platform: 'Stores',
  hub: 'The Hub',
  files: 'Archives',
};
const OF_GRAPHS: Readonly<Record<string, string>> = { ops: 'Ops', autodiff: 'Gradients', onnx: 'ONNX files' };
