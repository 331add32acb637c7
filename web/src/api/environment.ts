// What differs between a page and Node for the library: where files come from and go to, and who does the work.

import type { Data, Host } from "../worker/protocol.js";
import type { Input, SaveOptions, SaveTarget } from "./options.js";

/** A file before it is known what it is. */
export interface NamedFile {
  name: string;
  data: Data;
  text(): Promise<string>;
}

/** The files an input stands for. */
export interface Gathered {
  /** Files that were named; all of them are looked at. */
  given: NamedFile[];
  /** Files of the folder around a single given file: only configuration and tokenizers are taken from them. */
  beside: NamedFile[];
  /** Where the files given are all that a folder holds: its subfolders, each by its path. */
  inside?: () => Promise<Subfolder[]>;
}

/** A folder in a folder of which no file is the weights. */
export interface Subfolder {
  path: string;
  names: string[];
}

/** A host that can be ended. */
export interface ClosableHost extends Host {
  close(): void;
}

/** A page, a worker, or Node. */
export interface Environment {
  readonly host: Host;
  /** Who trains: a host of its own, as its module is large, and whoever trains wants to do other things meanwhile. */
  trainer(): Host;
  /** Who exports: a host of its own, as what exports is not in what everybody loads. */
  exporter(): Host;
  /** A host in a thread of its own, whose module shares work: whoever starts it closes it. */
  worker(): ClosableHost;
  /** Threads that can run at once. */
  readonly cores: number;
  gather(input: Input): Promise<Gathered>;
  /** The files of a tokenizer: of a path also those that belong to it, or those in the folder. */
  tokenizer(input: string | Blob): Promise<NamedFile[]>;
  /** The file beside which a file that will be saved to a path is best produced; undefined where none is. */
  beside(path: string): Promise<string | undefined>;
  save(data: Data, target: SaveTarget, options: SaveOptions): Promise<Blob | undefined>;
  /** Writes files into a folder, which is made where it is not there; the last one comes last. */
  saveFolder(files: readonly FolderFile[], target: SaveTarget, options: SaveOptions): Promise<void>;
}

/** A file of a folder that is written. */
export interface FolderFile {
  name: string;
  data: Data | string;
}
