#!/usr/bin/env node
// A checkout runs its sources (through tsx, a development dependency), so that an old build is never run by mistake;
// the published package holds no sources and runs its build.
import { existsSync } from 'node:fs';

const sources = new URL('../src/cli/main.ts', import.meta.url);
const build = new URL('../dist/cli/main.js', import.meta.url);

// The stack of an error then names the sources.
if (process.env.DEBUG) process.setSourceMapsEnabled(true);

const { main } = await load();
process.exitCode = await main(process.argv.slice(2));

async function load() {
  if (!existsSync(sources)) return import(build.href);
  try {
    const { register } = await import('tsx/esm/api');
    register();
  } catch (error) {
    if (error.code !== 'ERR_MODULE_NOT_FOUND') throw error;
    return import(build.href);
  }
  return import(sources.href);
}
