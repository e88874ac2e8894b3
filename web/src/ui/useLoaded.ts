import { type DependencyList, useCallback, useEffect, useState } from "react";

export interface Loaded<T> {
  data: T | undefined;
  error: string | null;
  reload: () => void;
}

/** The answer of a request, sent again when one of `deps` changes; the old answer stays until the new one arrives. */
export function useLoaded<T>(load: () => Promise<T>, deps: DependencyList): Loaded<T> {
  const [state, setState] = useState<{ data?: T; error: string | null }>({ error: null });
  const [asked, setAsked] = useState(0);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the caller says what the request depends on
  useEffect(() => {
    let isCurrent = true;
    load().then(
      (data) => isCurrent && setState({ data, error: null }),
      (error: Error) => isCurrent && setState({ error: error.message }),
    );
    return () => {
      isCurrent = false;
    };
  }, [...deps, asked]);
  const reload = useCallback(() => setAsked((count) => count + 1), []);
  return { data: state.data, error: state.error, reload };
}
