import type { LucideIcon } from "lucide-react";
import type { ButtonHTMLAttributes } from "react";

interface Props extends ButtonHTMLAttributes<HTMLButtonElement> {
  icon: LucideIcon;
  label: string;
}

/** A button with only an icon, and a name for assistive technology. */
export function IconButton({ icon: Icon, label, className = "", ...rest }: Props) {
  return (
    <button type="button" className={`icon ${className}`} aria-label={label} title={label} {...rest}>
      <Icon aria-hidden />
    </button>
  );
}
