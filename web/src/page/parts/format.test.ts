import { describe, expect, it } from "vitest";
import {
  asWritten,
  bytes,
  compact,
  count,
  counted,
  duration,
  exactBytes,
  listed,
  MISSING,
  percent,
  perplexity,
  powerOfTen,
  ratio,
  scientific,
  signedPercent,
  significant,
  smaller,
} from "./format.js";

const all: [string, (x: number) => string][] = [
  ["bytes", bytes],
  ["exactBytes", exactBytes],
  ["count", count],
  ["compact", compact],
  ["percent", percent],
  ["signedPercent", signedPercent],
  ["ratio", ratio],
  ["perplexity", perplexity],
  ["duration", duration],
  ["significant", significant],
  ["scientific", scientific],
];

describe("numbers that are none", () => {
  it.each(all)("%s says so", (_, format) => {
    expect(format(Number.NaN)).toBe("n/a");
    expect(format(Number.POSITIVE_INFINITY)).toMatch(/^\+?∞( bytes| %|x)?$/);
    expect(format(Number.NEGATIVE_INFINITY)).toMatch(/^−∞( bytes| %|x)?$/);
  });

  it.each(all)("%s has no negative zero", (_, format) => {
    expect(format(-0)).toBe(format(0));
    expect(format(-0)).not.toMatch(/[-−]/);
  });
});

describe("bytes", () => {
  it.each([
    [0, "0 bytes"],
    [1, "1 byte"],
    [999, "999 bytes"],
    [999.6, "1.00 kB"],
    [1000, "1.00 kB"],
    [1024, "1.02 kB"],
    [524_288, "524 kB"],
    [999_499, "999 kB"],
    [999_500, "1.00 MB"],
    [7_619_624, "7.62 MB"],
    [9_999_999, "10.0 MB"],
    [2.5e9, "2.50 GB"],
    [1.2e19, "12000 PB"],
    [-7_619_624, "−7.62 MB"],
  ])("%d is %s", (n, text) => expect(bytes(n)).toBe(text));

  it("are exact when asked", () => {
    expect(exactBytes(7_619_624)).toBe("7,619,624 bytes");
    expect(exactBytes(1)).toBe("1 byte");
    expect(exactBytes(0)).toBe("0 bytes");
  });
});

describe("counts", () => {
  it.each([
    [0, "0"],
    [999, "999"],
    [1000, "1,000"],
    [1_902_880, "1,902,880"],
    [-1234, "−1,234"],
    [-0.3, "0"],
  ])("%d is %s", (n, text) => expect(count(n)).toBe(text));

  it.each([
    [0, "0"],
    [950, "950"],
    [1000, "1.0 k"],
    [119_700, "120 k"],
    [999_999, "1.0 M"],
    [1_902_880, "1.9 M"],
    [2.8e9, "2.8 G"],
  ])("%d is about %s", (n, text) => expect(compact(n)).toBe(text));
});

describe("shares and changes", () => {
  it.each([
    [0.123, 1, "12.3 %"],
    [1, 0, "100 %"],
    [-0.0001, 1, "0.0 %"],
  ])("a fraction of %d to %d digits is %s", (x, digits, text) => expect(percent(x, digits)).toBe(text));

  it.each([
    [1.2, 2, "+1.20 %"],
    [-0.354, 2, "−0.35 %"],
    [0.001, 2, "0.00 %"],
    [-0.001, 2, "0.00 %"],
    [0, 1, "0.0 %"],
  ])("a change of %d to %d digits is %s", (x, digits, text) => expect(signedPercent(x, digits)).toBe(text));

  it("says how many times smaller", () => {
    expect(ratio(3.9444)).toBe("3.94x");
    expect(ratio(0)).toBe("0.00x");
  });
});

describe("times", () => {
  it.each([
    [0, "0 s"],
    [-1, "0 s"],
    [0.4, "under 1 s"],
    [3.2, "about 3 s"],
    [59.4, "about 59 s"],
    [59.6, "1 min"],
    [130, "2 min 10 s"],
    [3599.7, "1 h"],
    [3900, "1 h 5 min"],
  ])("%d seconds are %s", (seconds, text) => expect(duration(seconds)).toBe(text));
});

describe("significant digits", () => {
  it.each([
    [0, 3, "0"],
    [5.3456, 3, "5.35"],
    [9.996, 3, "10.0"],
    [0.00012345, 3, "0.000123"],
    [0.0000123, 3, "1.23 × 10⁻⁵"],
    [1234.5, 3, "1,235"],
    [1234567, 3, "1,234,567"],
    [1.5e9, 2, "1.5 × 10⁹"],
    [-2.5, 2, "−2.5"],
  ])("%d to %d is %s", (x, digits, text) => expect(significant(x, digits)).toBe(text));

  it("as powers of ten", () => {
    expect(scientific(1.25e-5)).toBe("1.25 × 10⁻⁵");
    expect(scientific(-9.999e12, 2)).toBe("−1.0 × 10¹³");
    expect(powerOfTen(0)).toBe("10⁰");
    expect(powerOfTen(-12)).toBe("10⁻¹²");
  });

  it("keeps subnormal numbers", () => {
    expect(significant(5e-324, 1)).toBe("5 × 10⁻³²⁴");
    expect(scientific(Number.MAX_VALUE)).toBe("1.80 × 10³⁰⁸");
  });
});

describe("counted", () => {
  it("has a plural where it belongs", () => {
    expect(counted(1, "tensor")).toBe("1 tensor");
    expect(counted(0, "tensor")).toBe("0 tensors");
    expect(counted(1200, "tensor")).toBe("1,200 tensors");
    expect(counted(Number.NaN, "tensor")).toBe(MISSING);
  });
});

describe("one notation everywhere", () => {
  it("writes the quality card's values as the page does", () => {
    expect(asWritten("7.83e-5")).toBe(scientific(7.83e-5));
    expect(asWritten("-0.049 % ± 0.021")).toBe("−0.049 % ± 0.021");
    expect(asWritten("1.00e+0")).toBe("1.00 × 10⁰");
    expect(asWritten("47.620 ± 2.318")).toBe("47.620 ± 2.318");
    for (const name of ["webgpu: swiftshader-16e4", "NVIDIA H100-2e1 (a-1)"]) expect(asWritten(name)).toBe(name);
  });
  it("has as many digits of a perplexity as the card", () => {
    expect(perplexity(47.62)).toBe("47.620");
    expect(perplexity(50277.12345)).toBe("50,277.123");
  });
  it("says which way a ratio goes", () => {
    expect([smaller(2.5), smaller(0.5), smaller(1)]).toEqual(["2.50x smaller", "2.00x larger", "1.00x smaller"]);
  });
  it("lists words", () => {
    expect([listed([]), listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])]).toEqual([
      "",
      "a",
      "a and b",
      "a, b and c",
    ]);
  });
});
