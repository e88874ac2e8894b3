/** The suggestions of fields for models and files. */

import { useMemo } from "react";
import { api } from "./api";
import { modelSchemas, suits } from "./models";
import { useStore } from "./store";
import { useLoaded } from "./ui/useLoaded";

export const FILES_LIST = "kinograph-files";

export function Lists() {
  const ended = useStore((state) => state.ended);
  const uploads = useStore((state) => state.uploads);
  const kinds = useStore((state) => state.kinds);
  const schemas = useMemo(() => [...modelSchemas(kinds)], [kinds]);
  const models = useLoaded(api.models, [ended]).data ?? [];
  const files = useLoaded(api.files, [ended, uploads]).data ?? [];
  return (
    <>
      {schemas.map(([list, schema]) => (
        <datalist key={list} id={list}>
          {models
            .filter((model) => suits(schema, model))
            .map(({ source }) => (
              <option key={source} value={source} />
            ))}
        </datalist>
      ))}
      <datalist id={FILES_LIST}>
        {files.map(({ filename, subfolder }) => {
          const name = subfolder ? `${subfolder}/${filename}` : filename;
          return <option key={name} value={name} />;
        })}
      </datalist>
    </>
  );
}
