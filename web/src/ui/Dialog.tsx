import { X } from "lucide-react";
import { type ReactNode, useEffect, useRef } from "react";
import { t } from "../i18n";

interface Props {
  label: string;
  className?: string;
  isBare?: boolean;
  onClose: () => void;
  children: ReactNode;
}

/** A modal dialog; Escape, or a click outside, closes it. */
export function Dialog({ label, className = "", isBare = false, onClose, children }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const opened = dialog.current;
    opened?.showModal();
    return () => opened?.close();
  }, []);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: Escape closes a dialog by itself
    <dialog
      ref={dialog}
      className={className}
      aria-label={label}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onClick={(event) => event.target === dialog.current && onClose()}
    >
      {!isBare && (
        <header>
          <h2>{label}</h2>
          <button type="button" className="icon" aria-label={t("dialog.close")} onClick={onClose}>
            <X />
          </button>
        </header>
      )}
      {children}
    </dialog>
  );
}
