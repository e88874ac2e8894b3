/** The dialogs that belong to no panel: shortcuts, a kind's help, an enlarged file. */

import { t } from "./i18n";
import { Deprecation } from "./Marks";
import { OTHER_KEYS, SHORTCUTS } from "./shortcuts";
import { useStore } from "./store";
import { Dialog } from "./ui/Dialog";
import { words } from "./workflow";

export function DialogLayer() {
  const dialog = useStore((state) => state.dialog);
  const set = useStore((state) => state.set);
  const close = () => set({ dialog: null });
  if (!dialog) return null;
  if (dialog.name === "shortcuts") return <Shortcuts onClose={close} />;
  if (dialog.name === "about") return <About kind={dialog.kind} onClose={close} />;
  return (
    <Dialog label={t("media.label")} className="large" onClose={close}>
      {dialog.isVideo ? (
        <video src={dialog.address} controls autoPlay loop muted />
      ) : (
        <img src={dialog.address} alt={t("media.label")} />
      )}
    </Dialog>
  );
}

function Shortcuts({ onClose }: { onClose: () => void }) {
  return (
    <Dialog label={t("keys.title")} className="keys" onClose={onClose}>
      <dl>
        {[...SHORTCUTS, ...OTHER_KEYS].map(({ keys, label }) => (
          <div key={keys}>
            <dt>{t(label)}</dt>
            <dd>
              {keys.split(/(?<=.)\+/).map((key) => (
                <kbd key={key}>{key}</kbd>
              ))}
            </dd>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}

function About({ kind, onClose }: { kind: string; onClose: () => void }) {
  const found = useStore((state) => state.kinds[kind]);
  if (!found) return null;
  return (
    <Dialog label={words(found.kind)} className="about" onClose={onClose}>
      <Deprecation instead={found.deprecated} />
      <p className="help">{found.help}</p>
      {found.volatile && <p className="help">{t("kind.volatile")}.</p>}
      {found.pack && <p className="help pack">{t("kind.pack", { pack: found.pack })}</p>}
      <h3>{t("node.inputs")}</h3>
      <dl>
        {found.inputs.map(({ name, type, help, required, deprecated }) => (
          <div key={name}>
            <dt>
              {words(name)} <small>{type}</small> {required && <small>{t("about.required")}</small>}
            </dt>
            <dd>
              <Deprecation instead={deprecated} />
              {help}
            </dd>
          </div>
        ))}
      </dl>
      <h3>{t("node.outputs")}</h3>
      <dl>
        {found.outputs.map(({ name, type }) => (
          <div key={name}>
            <dt>
              {words(name)} <small>{type}</small>
            </dt>
          </div>
        ))}
      </dl>
    </Dialog>
  );
}
