import path from 'node:path';
import {
  API,
  type Checker,
  SymbolFlags,
  type Symbol as TsSymbol,
  type Type,
  TypeFlags,
} from 'typescript/unstable/sync';

/** One member of an options interface, as an editor shows it. */
export interface Member {
  /** `TrainingArguments.seed`. */
  readonly name: string;
  readonly documentation: string;
  /** Whether it belongs to an interface that is named as options. */
  readonly isOfOptions: boolean;
  readonly isOptional: boolean;
  readonly type: string;
  /** Whether an editor can complete its values: words, null or undefined, and nothing open. */
  readonly completes: boolean;
}

const CLOSED = TypeFlags.StringLiteral | TypeFlags.Null | TypeFlags.Undefined;

/** What an interface of options is called. */
const OPTIONS = /(Options|Arguments|Config|Inputs|Facts|Format|Request)$/;

/**
 * The members of what users write as objects: the interfaces that the entries of the package export, and that are named as
 * options or have an optional member. They are read from the declarations, not the sources.
 */
export function optionMembers(project: string, entries: readonly string[]): Member[] {
  const api = new API({ cwd: project });
  try {
    const config = path.join(project, 'tsconfig.json');
    const opened = api.updateSnapshot({ openProject: config }).getProject(config);
    if (!opened) throw new Error(`no project at ${config}`);
    const { program, checker } = opened;
    const found = entries.flatMap((entry) => {
      const file = program.getSourceFile(path.join(project, 'node_modules/iso-diffusion', entry));
      const module = file && checker.getSymbolAtLocation(file);
      if (!module) throw new Error(`the project imports nothing from ${entry}`);
      return checker.getExportsOfModule(module).flatMap((exported) => membersOf(checker, exported));
    });
    return [...new Map(found.map((member) => [member.name, member])).values()];
  } finally {
    api.close();
  }
}

function membersOf(checker: Checker, exported: TsSymbol): Member[] {
  const symbol = exported.flags & SymbolFlags.Alias ? checker.getAliasedSymbol(exported) : exported;
  if (!symbol || !(symbol.flags & (SymbolFlags.Interface | SymbolFlags.TypeAlias))) return [];
  const type = checker.getDeclaredTypeOfSymbol(symbol);
  if (!type) return [];
  const isOfOptions = OPTIONS.test(exported.name);
  const members = checker.getPropertiesOfType(type).map((property) => {
    const declared = checker.getTypeOfSymbol(property);
    return {
      name: `${exported.name}.${property.name}`,
      isOfOptions,
      documentation: checker.getDocumentationCommentOfSymbol(property).trim(),
      isOptional: (property.flags & SymbolFlags.Optional) !== 0,
      type: declared ? checker.typeToString(declared) : '',
      completes: choicesOf(declared).every(({ flags }) => flags & CLOSED),
    };
  });
  return isOfOptions || members.some(({ isOptional }) => isOptional) ? members : [];
}

function choicesOf(type: Type | undefined): readonly Type[] {
  if (!type) return [];
  return type.isUnionType() ? type.getTypes() : [type];
}
