import { CONTRACT_VERSION } from "../version.js";

/**
 * Warns once if the server's major version differs or its minor version is more than one away. Both numbers are
 * versions of the HTTP interface, not of a package.
 */
export class VersionSkew {
  #warned = false;

  /** Looks at a response's `X-SIE-Server-Version`. */
  check(server: string | null): void {
    if (this.#warned || server === null || !skewed(server, CONTRACT_VERSION)) return;
    this.#warned = true;
    console.warn(`sie: the server implements version ${server}; this SDK is for ${CONTRACT_VERSION}`);
  }
}

function skewed(one: string, other: string): boolean {
  const [[major, minor], [otherMajor, otherMinor]] = [numbers(one), numbers(other)];
  if (Number.isNaN(major + minor + otherMajor + otherMinor)) return false;
  return major !== otherMajor || Math.abs(minor - otherMinor) > 1;
}

function numbers(version: string): [major: number, minor: number] {
  const found = /^(\d+)\.(\d+)/.exec(version);
  return [Number(found?.[1]), Number(found?.[2])];
}
