import { CONTRACT_VERSION } from "../version.js";

/**
 * Observations of one client about its server. Warns once of each option that the server ignored, and once of a server
 * whose major version differs or whose minor version is more than one away. Both numbers are versions of the HTTP
 * interface, not of a package.
 */
export class ServerHistory {
  /** Whether the server has responded, in whatever way. */
  reached = false;
  #warned = false;
  readonly #ignored = new Set<string>();

  /** Notes a response. */
  heard(headers: Headers): void {
    this.reached = true;
    this.#checkVersion(headers.get("x-sie-server-version"));
    for (const name of (headers.get("x-sie-ignored") ?? "").split(",").map((part) => part.trim())) {
      if (name === "" || this.#ignored.has(name)) continue;
      this.#ignored.add(name);
      console.warn(`sie: the server does not know ${name}, and ignored it`);
    }
  }

  #checkVersion(server: string | null): void {
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
