// The numbers of the landing picture: the demo model, compressed by two recipes and measured on all of the held-out text
// (17,850 tokens). A test holds them to what the page computes.

/** One square. */
export interface Square {
  recipe: "none" | "int8" | "nf4";
  label: string;
  /** Of the weights. */
  bytes: number;
  /** How often the likeliest next word is the same as the original's; undefined of the original. */
  same: number | undefined;
}

/** From the original to the smallest. */
export const SQUARES: Square[] = [
  { recipe: "none", label: "32 bits a weight", bytes: 7_611_520, same: undefined },
  { recipe: "int8", label: "8 bits", bytes: 1_990_688, same: 0.991 },
  { recipe: "nf4", label: "4 bits", bytes: 1_015_004, same: 0.856 },
];
