/** Unused names. */

/** An unused name: the given one, or that with a number. */
export function freeName(name: string, isTaken: (name: string) => boolean, gap = " "): string {
  let free = name;
  for (let number = 2; isTaken(free); number += 1) free = `${name}${gap}${number}`;
  return free;
}

/** An unused id: the name reduced to the characters of ids, or that with a number. */
export function freshId(taken: object, name: string): string {
  return freeName(name.replace(/[^\w-]+/g, "_") || "node", (id) => id in taken, "_");
}
