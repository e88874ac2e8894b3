import { type DependencyList, useCallback, useEffect, useState } from "react";

export interface Loaded<T> {
  data: T | undefined;
  error: string | null;
  isLoading: boolean;
  reload: () => void;
}

/** What a request answers; it is asked again when one of `deps` changes, and what was there stays meanwhile. */
export function useLoaded<T>(load: () => Promise<T>, deps: DependencyList): Loaded<T> {
  const [state, setState] = useState<{ data?: T; error: string | null; isLoading: boolean }>({
    error: null,
    isLoading: true,
  });
  const [asked, setAsked] = useState(0);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the caller says on what the request depends
  useEffect(() => {
    let isCurrent = true;
    setState((before) => ({ ...before, isLoading: true }));
    load().then(
      (data) => isCurrent && setState({ data, error: null, isLoading: false }),
      (error: Error) => isCurrent && setState({ error: error.message, isLoading: false }),
    );
    return () => {
      isCurrent = false;
    };
  }, [...deps, asked]);
  const reload = useCallback(() => setAsked((count) => count + 1), []);
  return { data: state.data, error: state.error, isLoading: state.isLoading, reload };
}
