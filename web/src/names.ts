/** Names that nothing has yet. */

/** A name that is not taken: as it is, or with a number. */
export function freeName(name: string, isTaken: (name: string) => boolean, gap = " "): string {
  let free = name;
  for (let number = 2; isTaken(free); number += 1) free = `${name}${gap}${number}`;
  return free;
}

/** An id that is not taken: the name, of letters that ids have, or with a number. */
export function freshId(taken: object, name: string): string {
  return freeName(name.replace(/[^\w-]+/g, "_") || "node", (id) => id in taken, "_");
}
