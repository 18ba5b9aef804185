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
  readonly isOptional: boolean;
  readonly type: string;
  /** Whether an editor can complete its values: words, null or undefined, and nothing open. */
  readonly completes: boolean;
}

const CLOSED = TypeFlags.StringLiteral | TypeFlags.Null | TypeFlags.Undefined;

/** What an options interface is called: what a user writes as an object. */
const OPTIONS = /(Options|Arguments|Config|Inputs|Facts)$/;

/** All members of the options interfaces that the entries of the package export; from its declarations, not its sources. */
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
      return checker
        .getExportsOfModule(module)
        .filter(({ name }) => OPTIONS.test(name))
        .flatMap((exported) => membersOf(checker, exported));
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
  return checker.getPropertiesOfType(type).map((property) => {
    const declared = checker.getTypeOfSymbol(property);
    return {
      name: `${exported.name}.${property.name}`,
      documentation: checker.getDocumentationCommentOfSymbol(property).trim(),
      isOptional: (property.flags & SymbolFlags.Optional) !== 0,
      type: declared ? checker.typeToString(declared) : '',
      completes: choicesOf(declared).every(({ flags }) => flags & CLOSED),
    };
  });
}

function choicesOf(type: Type | undefined): readonly Type[] {
  if (!type) return [];
  return type.isUnionType() ? type.getTypes() : [type];
}
