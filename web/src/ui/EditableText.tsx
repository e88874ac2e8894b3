import { type KeyboardEvent, useEffect, useRef } from "react";

interface Props {
  value: string;
  label: string;
  isEditing: boolean;
  onEdit: (isEditing: boolean) => void;
  onChange: (text: string) => void;
}

/** A new element can take the focus only once it has been measured and is visible. */
export const ONCE_DRAWN = 50;

/** Text that becomes an editable field on a double click. */
export function EditableText({ value, label, isEditing, onEdit, onChange }: Props) {
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => {
    if (!isEditing) return;
    const timer = setTimeout(() => {
      field.current?.focus();
      field.current?.select();
    }, ONCE_DRAWN);
    return () => clearTimeout(timer);
  }, [isEditing]);
  if (!isEditing) {
    return (
      // biome-ignore lint/a11y/noStaticElementInteractions: F2 and the menu do the same
      <span
        className="title"
        title={value}
        onDoubleClick={(event) => {
          event.stopPropagation();
          onEdit(true);
        }}
      >
        {value}
      </span>
    );
  }
  const finish = (text: string) => {
    onEdit(false);
    if (text !== value) onChange(text);
  };
  const keys: Record<string, () => void> = {
    Enter: () => finish(field.current?.value ?? value),
    Escape: () => onEdit(false),
  };
  return (
    <input
      ref={field}
      className="title nodrag"
      aria-label={label}
      defaultValue={value}
      onBlur={(event) => finish(event.target.value)}
      onKeyDown={(event: KeyboardEvent) => {
        event.stopPropagation();
        keys[event.key]?.();
      }}
    />
  );
}
