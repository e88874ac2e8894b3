/** The suggestions of fields for models and files. */

import { api } from "./api";
import { useStore } from "./store";
import { useLoaded } from "./ui/useLoaded";

export const MODELS_LIST = "kinograph-models";
export const FILES_LIST = "kinograph-files";

export function Lists() {
  const ended = useStore((state) => state.ended);
  const uploads = useStore((state) => state.uploads);
  const models = useLoaded(api.models, [ended]).data ?? [];
  const files = useLoaded(api.files, [ended, uploads]).data ?? [];
  return (
    <>
      <datalist id={MODELS_LIST}>
        {models.map(({ source }) => (
          <option key={source} value={source} />
        ))}
      </datalist>
      <datalist id={FILES_LIST}>
        {files.map(({ filename, subfolder }) => {
          const name = subfolder ? `${subfolder}/${filename}` : filename;
          return <option key={name} value={name} />;
        })}
      </datalist>
    </>
  );
}
