// Shell completion: a script for bash, zsh or fish, made from the table of commands and the table of options.

import type { Run } from "./command.js";
import { builtin } from "./files.js";
import { COMMANDS, SHELLS } from "./manual.js";
import { COMMON, type OptionName, option } from "./options.js";

/** What can be typed: all that a script has to know. */
interface Grammar {
  commands: { name: string; does: string; options: Offered[]; operands: readonly string[]; files: boolean }[];
}

interface Offered {
  name: OptionName;
  short: string | undefined;
  help: string;
  /** What follows it: words of a list, a file, or something that nobody can foretell. A flag when left out. */
  value: { words: readonly string[]; files: boolean; list: boolean } | undefined;
}

const SCRIPTS: Record<(typeof SHELLS)[number], (grammar: Grammar) => string> = { bash, zsh, fish };

export async function completion({ output }: Run, shell: string): Promise<number> {
  const found = SHELLS.find((it) => it === shell) ?? "bash";
  const script = SCRIPTS[found](grammar((await builtin()).map(({ name }) => name)));
  output.result({ shell: found, script }, () => script.trimEnd());
  return 0;
}

function grammar(recipeNames: readonly string[]): Grammar {
  const offered = (name: OptionName): Offered => {
    const { value, short, help, allowed, offers, list } = option(name);
    const words = allowed ?? (offers === "recipe" ? recipeNames : []);
    const files = offers !== undefined;
    return { name, short, help, value: value === undefined ? undefined : { words, files, list: list ?? false } };
  };
  const commands = Object.entries(COMMANDS).map(([name, { does, options, operands, allowed }]) => ({
    name,
    does,
    options: [...options, ...COMMON].map(offered),
    operands: allowed ?? [],
    files: operands.length > 0 && allowed === undefined,
  }));
  const help = { name: "help", does: "the options of a command", options: [], operands: Object.keys(COMMANDS) };
  return { commands: [...commands, { ...help, files: false }] };
}

const spellings = ({ name, short }: Offered) => [...(short === undefined ? [] : [`-${short}`]), `--${name}`];

// Neither words nor help of the tables hold quotes that a shell could end at; written so that they may.
const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

function bash({ commands }: Grammar): string {
  const values = commands.map(({ name, options }) => {
    const cases = options.map((it) => {
      if (!it.value) return "";
      const { words, files, list } = it.value;
      const act = `${list ? "list" : "words"} ${files ? 1 : 0} ${quoted(words.join(" "))}`;
      return `      ${spellings(it).join("|")}) _statepress_${act}; return ;;\n`;
    });
    return `    ${name}) case $before in\n${cases.join("")}    esac ;;`;
  });
  const operands = commands.map(({ name, options, operands, files }) => {
    const flags = options.flatMap(spellings).join(" ");
    return `    ${name}) _statepress_operands ${files ? 1 : 0} ${quoted(flags)} ${quoted(operands.join(" "))} ;;`;
  });
  const names = commands.map(({ name }) => name).join(" ");
  return `# bash completion of statepress: source <(statepress completion bash)

# Files of the folder that is typed; bash puts the slash behind folders and the quotes around blanks.
_statepress_files() {
  local line
  compopt -o filenames 2>/dev/null
  while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$word")
}

_statepress_words() {
  COMPREPLY=($(compgen -W "$2" -- "$word"))
  if [ "$1" = 1 ]; then _statepress_files; fi
}

# Words with commas between them: the last one is completed.
_statepress_list() {
  local head=
  case $word in *,*) head=\${word%,*}, ;; esac
  COMPREPLY=($(compgen -P "$head" -W "$2" -- "\${word##*,}"))
}

_statepress_operands() {
  case $word in
    -*) COMPREPLY=($(compgen -W "$2" -- "$word")) ;;
    *) _statepress_words "$1" "$3" ;;
  esac
}

_statepress() {
  local word=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD - 1]} command=\${COMP_WORDS[1]}
  COMPREPLY=()
  # bash takes --option=value for three words.
  if [ "$word" = = ]; then word=; elif [ "$before" = = ]; then before=\${COMP_WORDS[COMP_CWORD - 2]}; fi
  if [ "$COMP_CWORD" = 1 ]; then
    COMPREPLY=($(compgen -W ${quoted(`${names} --help --version`)} -- "$word"))
    return
  fi
  case $command in
${values.join("\n")}
  esac
  case $command in
${operands.join("\n")}
  esac
}

complete -F _statepress statepress
`;
}

// Colons, brackets and backslashes mean something in the specifications of _arguments.
const zshWords = (text: string) => text.replace(/[[\]\\:]/g, "\\$&");

function zsh({ commands }: Grammar): string {
  const action = ({ words, files, list }: NonNullable<Offered["value"]>) => {
    const values = words.join(" ");
    if (list) return `_values -s , value ${values}`;
    if (files && words.length > 0) return `{compadd -- ${values}; _files}`;
    if (files) return "_files";
    return words.length > 0 ? `(${values})` : " ";
  };
  const cases = commands.map(({ name, options, operands, files }) => {
    const specs = options.flatMap((it) => {
      const help = `[${zshWords(it.help)}]`;
      const value = it.value ? `:value:${action(it.value)}` : "";
      const once = `(${spellings(it).join(" ")})`;
      const equals = (spelling: string) => (it.value && spelling.startsWith("--") ? "=" : "");
      return spellings(it).map((spelling) => quoted(`${once}${spelling}${equals(spelling)}${help}${value}`));
    });
    if (files) specs.push(quoted("*:file:_files"));
    if (operands.length > 0) specs.push(quoted(`1:which:(${operands.join(" ")})`));
    return `    ${name}) _arguments -s ${specs.join(" \\\n      ")} ;;`;
  });
  const described = commands.map(({ name, does }) => `    ${quoted(`${name}:${zshWords(does)}`)}`);
  return `#compdef statepress
# zsh completion of statepress: source <(statepress completion zsh)

_statepress() {
  local -a commands=(
${described.join("\n")}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
${cases.join("\n")}
  esac
}

# As a file of $fpath this is the body of the function; sourced, it defines it.
if [[ $funcstack[1] == _statepress ]]; then _statepress "$@"; else compdef _statepress statepress; fi
`;
}

function fish({ commands }: Grammar): string {
  const lines = commands.flatMap(({ name, does, options, operands, files }) => {
    const here = `complete -c statepress -n ${quoted(`__fish_seen_subcommand_from ${name}`)}`;
    return [
      `complete -c statepress -n __fish_use_subcommand -f -a ${name} -d ${quoted(does)}`,
      // Without -F an operand is one of the words, if it is anything.
      `${here} ${files ? "-F" : "-f"}${operands.length > 0 ? ` -a ${quoted(operands.join(" "))}` : ""}`,
      ...options.map((it) => {
        const short = it.short === undefined ? "" : ` -s ${it.short}`;
        return `${here} -l ${it.name}${short}${fishValue(it)} -d ${quoted(it.help)}`;
      }),
    ];
  });
  return `# fish completion of statepress: statepress completion fish | source

${lines.join("\n")}
`;
}

function fishValue({ value }: Offered): string {
  if (!value) return "";
  const { words, files, list } = value;
  const offered = list ? `(__fish_append , ${words.join(" ")})` : words.join(" ");
  return ` -r ${files ? "-F" : "-f"}${words.length > 0 ? ` -a ${quoted(offered)}` : ""}`;
}
