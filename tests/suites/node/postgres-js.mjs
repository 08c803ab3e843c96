// Loaded before postgres.js' tests, which are one file: they are aimed at the port in question where they name 5432, and
// a harness that notes each test and goes on after a failure takes the place of the one that gives up.
import fs from 'node:fs'
import { register } from 'node:module'
import { isMainThread } from 'node:worker_threads'
import util from 'node:util'

const TESTS = '/tests/index.js'
const HARNESS = '/tests/test.js'

if (isMainThread && !process.env.SUITE_HOOKED) {
  process.env.SUITE_HOOKED = '1'
  register(import.meta.url)
}

// Hooks of the loader.

export async function resolve(specifier, context, next) {
  const found = await next(specifier, context)
  return found.url.endsWith(HARNESS) ? { ...found, url: import.meta.url, format: 'module' } : found
}

export async function load(url, context, next) {
  const loaded = await next(url, context)
  if (!url.endsWith(TESTS)) return loaded
  const source = loaded.source.toString()
    .replaceAll('localhost:5432', `127.0.0.1:${process.env.PGPORT}`)
    .replaceAll('5432', process.env.PGPORT)
  return { ...loaded, source }
}

// The harness.

// Three times what the suite itself allows: machines differ.
const PATIENCE = 3
const DEFAULT_S = 5

const seen = new Map()
let last = Promise.resolve()
let waiting = 0

function note(name, outcome, detail) {
  const times = (seen.get(name) || 0) + 1
  seen.set(name, times)
  const test = times > 1 ? `${name} (${times})` : name
  fs.appendFileSync(process.env.SUITE_RECORD, JSON.stringify({ test, outcome, detail }) + '\n')
}

async function run(options, action) {
  const result = await action()
  if (!Array.isArray(result)) throw new Error('no array')
  const [expected, got] = await Promise.all(result)
  if (expected !== got) throw new Error(`${util.inspect(expected)} != ${util.inspect(got)}`)
}

async function judged(name, options, action) {
  const limit_s = PATIENCE * (options.timeout || DEFAULT_S)
  let clock
  const late = new Promise((_, reject) => {
    clock = setTimeout(() => reject(new Error(`not over after ${limit_s} s`)), limit_s * 1000)
  })
  try {
    await Promise.race([run(options, action), late])
    note(name, 'passed', '')
  } catch (error) {
    note(name, 'failed', error instanceof Error ? error.stack : util.inspect(error))
  } finally {
    clearTimeout(clock)
  }
  waiting -= 1
  if (waiting === 0) process.exit(0)
}

export function t(name, ...rest) {
  if (!name.includes(process.env.SUITE_ONLY || '')) return
  const [options, action] = rest.length > 1 ? rest : [{}, rest[0]]
  waiting += 1
  last = last.then(() => judged(name, options, action))
}
export const ot = t
export const nt = (name) => note(name, 'skipped', '')

// An error that nobody waits for is the test's that is running, which says so itself or is late.
process.on('uncaughtException', (error) => console.error(error))
process.on('unhandledRejection', (error) => console.error(error))
