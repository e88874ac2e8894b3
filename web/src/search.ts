import { type Face, words } from "./workflow";

/** More than the scores of all words of a search can add up to. */
const EXACT = 1000;

/** Items that match a text, best first; a match in an earlier name counts more than in a later one. */
export function ranked<T>(items: T[], text: string, namesOf: (item: T) => string[]): T[] {
  const wanted = text.trim().toLowerCase().split(/\s+/).filter(Boolean);
  const scored = items.map((item) => {
    const names = namesOf(item).map((name) => name.toLowerCase());
    const scores = wanted.map((word) =>
      Math.max(0, ...names.map((name, at) => score(name, word) / (at + 1))),
    );
    const exact = names[0] === wanted.join(" ") ? EXACT : 0;
    return { item, score: scores.includes(0) ? 0 : scores.reduce((sum, part) => sum + part, 1 + exact) };
  });
  return scored
    .filter((found) => found.score > 0)
    .sort((one, other) => other.score - one.score)
    .map(({ item }) => item);
}

/** The kinds of node that match a text, best first, with deprecated ones last. */
export function kindsFound(faces: Face[], text: string): Face[] {
  const found = ranked(faces, text, (face) => [
    words(face.kind),
    face.kind,
    face.category,
    face.help,
    face.pack ?? "",
  ]);
  return [...found.filter((face) => !face.deprecated), ...found.filter((face) => face.deprecated)];
}

function score(name: string, word: string): number {
  const at = name.indexOf(word);
  if (at < 0) return 0;
  if (at === 0) return 4;
  return /\W/.test(name[at - 1] ?? "") ? 3 : 1;
}
