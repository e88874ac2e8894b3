/** Small marks of kinds and inputs: which pack a kind is of, and what to use instead of what is deprecated. */

import { Puzzle, TriangleAlert } from "lucide-react";
import { t } from "./i18n";

/** What is told of something deprecated; `instead` says what to use. */
export const deprecation = (instead: string) => t("kind.deprecated", { instead });

/** What a field is called by assistive technology, which then says too that its input is deprecated. */
export const labelled = (label: string, instead: string | undefined) =>
  instead ? t("field.deprecated", { label }) : label;

/** The pack that a kind is of, as a picture with a name; nothing for a kind that is built in. */
export function PackMark({ pack }: { pack: string | null }) {
  if (!pack) return null;
  const label = t("kind.pack", { pack });
  return (
    <span className="mark" role="img" aria-label={label} title={label}>
      <Puzzle aria-hidden />
    </span>
  );
}

/** What to use instead of an input, as a picture with a name. */
export function DeprecatedMark({ instead }: { instead: string | undefined }) {
  if (!instead) return null;
  const label = deprecation(instead);
  return (
    <span className="deprecated mark" role="img" aria-label={label} title={label}>
      <TriangleAlert aria-hidden />
    </span>
  );
}

/** What to use instead, in words. */
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
