import { type KeyboardEvent, useEffect, useLayoutEffect, useRef, useState } from "react";
import { useStore } from "../store";
import type { MenuItem } from "../store/ui";

const EDGE = 8;

/** The open menu, if any: arrows move, letters search, Escape closes it. */
export function MenuLayer() {
  const menu = useStore((state) => state.menu);
  const set = useStore((state) => state.set);
  const list = useRef<HTMLDivElement>(null);
  const before = useRef<Element | null>(null);
  const [at, setAt] = useState({ x: 0, y: 0 });

  useLayoutEffect(() => {
    const box = list.current?.getBoundingClientRect();
    if (!menu || !box) return;
    setAt({
      x: Math.max(EDGE, Math.min(menu.at.x, innerWidth - box.width - EDGE)),
      y: Math.max(EDGE, Math.min(menu.at.y, innerHeight - box.height - EDGE)),
    });
  }, [menu]);

  useEffect(() => {
    if (!menu) return;
    before.current = document.activeElement;
    list.current?.querySelector<HTMLElement>("[role=menuitem]:not(:disabled)")?.focus();
    const close = (event: PointerEvent) => {
      if (!list.current?.contains(event.target as Node)) set({ menu: null });
    };
    document.addEventListener("pointerdown", close, true);
    return () => document.removeEventListener("pointerdown", close, true);
  }, [menu, set]);

  if (!menu) return null;
  const leave = () => {
    set({ menu: null });
    if (before.current instanceof HTMLElement) before.current.focus();
  };
  const choose = (item: MenuItem) => {
    leave();
    item.act();
  };
  const move = (event: KeyboardEvent) => {
    const items = [...(list.current?.querySelectorAll<HTMLElement>("[role=menuitem]:not(:disabled)") ?? [])];
    const now = items.indexOf(document.activeElement as HTMLElement);
    const letter = event.key.length === 1 && event.key !== " " ? event.key.toLowerCase() : "";
    const turned = [...items.slice(now + 1), ...items.slice(0, now + 1)];
    const found = letter
      ? turned.find((item) => item.textContent?.trim().toLowerCase().startsWith(letter))
      : undefined;
    const keys: Record<string, () => void> = {
      ArrowDown: () => items[(now + 1) % items.length]?.focus(),
      ArrowUp: () => items[(now - 1 + items.length) % items.length]?.focus(),
      Home: () => items[0]?.focus(),
      End: () => items.at(-1)?.focus(),
      Escape: leave,
      Tab: leave,
    };
    const act = keys[event.key] ?? (found && (() => found.focus()));
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  };
  return (
    <div
      ref={list}
      className="menu"
      role="menu"
      tabIndex={-1}
      aria-label={menu.label}
      style={{ left: at.x, top: at.y }}
      onKeyDown={move}
    >
      {menu.items.map((item, at) => (
        <button
          // biome-ignore lint/suspicious/noArrayIndexKey: the items of an open menu don't move
          key={at}
          type="button"
          role="menuitem"
          disabled={item.isOff}
          onClick={() => choose(item)}
        >
          {item.icon ? <item.icon aria-hidden /> : <i />}
          <span>{item.label}</span>
          {item.hint && <kbd>{item.hint}</kbd>}
        </button>
      ))}
    </div>
  );
}
