import { CircleAlert, CircleCheck } from "lucide-react";
import { useStore } from "../store";

/** Notifications, each shown for some seconds. */
export function Toasts() {
  const toasts = useStore((state) => state.toasts);
  return (
    <div className="toasts" role="status" aria-live="polite">
      {toasts.map(({ id, tone, text }) => (
        <p key={id} className={tone}>
          {tone === "bad" ? <CircleAlert aria-hidden /> : <CircleCheck aria-hidden />}
          {text}
        </p>
      ))}
    </div>
  );
}
