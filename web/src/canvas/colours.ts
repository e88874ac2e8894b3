/** The hues of types and categories; those without a fixed one get one from their name. */

import type { CSSProperties } from "react";

const HUES: Record<string, number> = {
  Image: 212,
  Video: 276,
  ImageModel: 28,
  VideoModel: 328,
  LanguageModel: 164,
  LoRA: 48,
  Messages: 120,
  MedusaHeads: 180,
  Table: 190,
  TrainingOptions: 64,
  Vocabulary: 96,
  str: 140,
  int: 245,
  float: 232,
  bool: 8,
  image: 212,
  video: 276,
  text: 150,
  lora: 40,
  dataset: 190,
  files: 250,
  flow: 8,
};
const GREY = new Set(["Any", "Files", "Folder", ""]);

function hueOf(name: string): number {
  const known = HUES[name];
  if (known !== undefined) return known;
  let sum = 7;
  for (const letter of name) sum = (sum * 31 + letter.charCodeAt(0)) % 360;
  return sum;
}

/** A style with the colour of a type or category. */
export function coloured(name: string): CSSProperties {
  return { "--hue": hueOf(name), "--sat": GREY.has(name) ? "6%" : "62%" } as CSSProperties;
}

/** The same colour as text, for the map. */
export function plainColour(name: string): string {
  return `hsl(${hueOf(name)} ${GREY.has(name) ? 6 : 45}% 60%)`;
}
