/** Small marks on kinds and inputs: a kind's pack, and the replacement of something deprecated. */

import { Dices, Puzzle, TriangleAlert } from "lucide-react";
import { t } from "./i18n";

/** The text on something deprecated; `instead` says what to use. */
export const deprecation = (instead: string) => t("kind.deprecated", { instead });

/** The name of a field for assistive technology, which also says whether its input is deprecated. */
export const labelled = (label: string, instead: string | undefined) =>
  instead ? t("field.deprecated", { label }) : label;

/** The pack that a kind comes from, as an icon with a name; nothing for a built-in kind. */
export function PackMark({ pack }: { pack: string | null }) {
  if (!pack) return null;
  const label = t("kind.pack", { pack });
  return (
    <span className="mark" role="img" aria-label={label} title={label}>
      <Puzzle aria-hidden />
    </span>
  );
}

/** A kind that runs in every run, as an icon with a name; nothing for any other. */
export function VolatileMark({ volatile }: { volatile: boolean }) {
  if (!volatile) return null;
  const label = t("kind.volatile");
  return (
    <span className="mark" role="img" aria-label={label} title={label}>
      <Dices aria-hidden />
    </span>
  );
}

/** The replacement of a deprecated input, as an icon with a name. */
export function DeprecatedMark({ instead }: { instead: string | undefined }) {
  if (!instead) return null;
  const label = deprecation(instead);
  return (
    <span className="deprecated mark" role="img" aria-label={label} title={label}>
      <TriangleAlert aria-hidden />
    </span>
  );
}

/** The replacement, in words. */
export function Deprecation({ instead }: { instead: string | undefined }) {
  if (!instead) return null;
  const text = deprecation(instead);
  return (
    <p className="deprecated" title={text}>
      <TriangleAlert aria-hidden />
      <span>{text}</span>
    </p>
  );
}
