import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    projects: [
      { test: { name: "unit", include: ["tests/unit/**/*.test.ts"], testTimeout: 30_000 } },
      {
        // One server for all of them, on a machine that has other things to do.
        test: {
          name: "live",
          include: ["tests/live/**/*.test.ts"],
          globalSetup: ["tests/live/server.ts"],
          testTimeout: 60_000,
          hookTimeout: 60_000,
        },
      },
    ],
  },
});
