/**
 * Types of the runtime. They are its own where a program's compiler knows them (from DOM or `@types/node`), else the part
 * that matters here, so that the declarations of this package need neither.
 */

export type Fetch = typeof globalThis extends { fetch: infer Own }
  ? Own
  : // biome-ignore lint/suspicious/noExplicitAny: there is no type to name
    (url: string, init?: any) => Promise<any>;

export type Signal = typeof globalThis extends { AbortSignal: { prototype: infer Own } }
  ? Own
  : { readonly aborted: boolean };
