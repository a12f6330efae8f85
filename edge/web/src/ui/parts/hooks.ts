import { Component, type ComponentType, createContext, h } from "preact";
import { useCallback, useContext, useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { TidingsClient, Watchable } from "../../sdk/index.ts";

const ClientContext = createContext<TidingsClient | undefined>(undefined);

/** Gives the signed-in client to what is inside. */
export const ClientProvider = ClientContext.Provider;

/** The signed-in client. */
export function useClient(): TidingsClient {
  const client = useContext(ClientContext);
  if (client === undefined) throw new Error("this component belongs inside a ClientProvider");
  return client;
}

/** A function that has the component drawn again. */
export function useRedraw(): () => void {
  const [, setCount] = useState(0);
  return useCallback(() => setCount((count) => count + 1), []);
}

/** A watchable's value; the component is drawn again when it changes. */
export function useWatch<T>(watchable: Watchable<T>): T {
  const redraw = useRedraw();
  const { value } = watchable;
  useLayoutEffect(() => {
    const unsubscribe = watchable.subscribe(redraw);
    // It may have changed between the drawing and now.
    if (!Object.is(watchable.value, value)) redraw();
    return unsubscribe;
  }, [watchable]);
  return value;
}

/** Calls `listener` for events of the window. */
export function useWindowEvent<K extends keyof WindowEventMap>(name: K, listener: (event: WindowEventMap[K]) => void): void {
  const latest = useRef(listener);
  latest.current = listener;
  useEffect(() => {
    const call = (event: WindowEventMap[K]): void => latest.current(event);
    window.addEventListener(name, call);
    return () => window.removeEventListener(name, call);
  }, [name]);
}

/** Draws the component again after `intervalMs`, for texts that name the present. */
export function useTicking(intervalMs: number): void {
  const redraw = useRedraw();
  useEffect(() => {
    const timer = setInterval(redraw, intervalMs);
    return () => clearInterval(timer);
  }, [intervalMs]);
}

/** The component, drawn again only when a property has changed. */
export function memo<P extends object>(Inner: ComponentType<P>): ComponentType<P> {
  return class Memo extends Component<P> {
    override shouldComponentUpdate(next: Readonly<P>): boolean {
      const before = this.props as Record<string, unknown>;
      const after = next as Record<string, unknown>;
      const names = new Set([...Object.keys(before), ...Object.keys(after)]);
      return [...names].some((name) => before[name] !== after[name]);
    }
    override render() {
      return h(Inner, this.props as P);
    }
  };
}

/** Class names, without the absent ones. */
export function classes(...names: (string | false | undefined)[]): string {
  return names.filter(Boolean).join(" ");
}
