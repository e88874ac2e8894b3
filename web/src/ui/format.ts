/** Numbers and times for display. */

export function seconds(value: number): string {
  if (value < 10) return `${value.toFixed(1)} s`;
  if (value < 60) return `${Math.round(value)} s`;
  const minutes = Math.floor(value / 60);
  return minutes < 60
    ? `${minutes} min ${Math.round(value % 60)} s`
    : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });

/** A number with three digits, or all before its point: 0.0123, 2.99, 1,203, 1e+20. */
export function number(value: number): string {
  const size = Math.abs(value);
  if (Number.isSafeInteger(value) || (size >= 100 && size < 1e15)) return whole.format(value);
  return size >= 1e-4 && size < 1e15 ? short.format(value) : Number(value.toPrecision(3)).toExponential();
}

const UNITS = ["B", "kB", "MB", "GB", "TB"];

export function bytes(value: number): string {
  let size = value;
  let unit = 0;
  while (size >= 1000 && unit < UNITS.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${size < 10 && unit > 0 ? size.toFixed(1) : Math.round(size)} ${UNITS[unit]}`;
}

/** A time from the server, as seconds since 1970 or in ISO format. */
export function time(value: string | number | null): string {
  if (value === null || value === "") return "";
  const date = new Date(typeof value === "number" ? value * 1000 : value);
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday
    ? date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })
    : date.toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}
