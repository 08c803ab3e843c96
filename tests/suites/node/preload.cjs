// Loaded before each file of node-postgres' test suite: the installed package takes the place of the checkout's own,
// and a suite that notes each test and goes on after a failure takes the place of the one that ends the process.
'use strict'

const fs = require('fs')
const Module = require('module')
const path = require('path')

const checkout = path.join(process.env.SUITE_CHECKOUT, 'packages', 'pg')
const installed = path.dirname(require.resolve('pg/package.json', { paths: [process.env.NODE_PATH] }))
const file = path.relative(path.join(checkout, 'test'), process.argv[1])
// Three times what the suite itself allows: machines differ.
const TEST_MS = 15000
const END_MS = 3000

const resolve = Module._resolveFilename
Module._resolveFilename = function (request, parent, ...rest) {
  if (parent && request.startsWith('.')) {
    const wanted = path.resolve(path.dirname(parent.filename), request)
    if (wanted === path.join(checkout, 'test', 'suite')) return __filename
    if (wanted === path.join(checkout, 'lib') || wanted.startsWith(path.join(checkout, 'lib') + path.sep)) {
      return resolve.call(this, path.join(installed, path.relative(checkout, wanted)), parent, ...rest)
    }
  }
  return resolve.call(this, request, parent, ...rest)
}

const exit = process.exit.bind(process)
const seen = new Map()
const waiting = []
let running = null
let failures = 0

function note(name, outcome, detail) {
  const times = (seen.get(name) || 0) + 1
  seen.set(name, times)
  const test = `${file}::${name}${times > 1 ? ` (${times})` : ''}`
  fs.appendFileSync(process.env.SUITE_RECORD, JSON.stringify({ test, outcome, detail }) + '\n')
}

function settle(test, error) {
  if (running !== test) return
  running = null
  clearTimeout(test.clock)
  if (error) failures += 1
  note(test.name, error ? 'failed' : 'passed', error ? String(error.stack || error) : '')
  setImmediate(next)
}

function next() {
  if (running) return
  const test = waiting.shift()
  if (!test) {
    // A test that failed may have left a connection behind that would keep the process alive.
    if (failures) setTimeout(() => waiting.length || running || exit(0), END_MS).unref()
    return
  }
  if (!test.action) {
    note(test.name, 'skipped', '')
    return setImmediate(next)
  }
  running = test
  const done = (error) => settle(test, error)
  test.clock = setTimeout(() => done(new Error(`not over after ${TEST_MS} ms`)), TEST_MS)
  try {
    if (test.action.length) return test.action(done)
    Promise.resolve(test.action.call(test)).then(
      () => done(),
      (error) => done(error || new Error('rejected'))
    )
  } catch (error) {
    done(error)
  }
}

class Suite {
  test(name, action) {
    waiting.push({ name, action })
    setImmediate(next)
  }
}
module.exports = Suite

// The suite's own handler of uncaught exceptions ends the process; here only the test that threw has failed.
let uncaught = null
process.on('uncaughtException', (error) => (uncaught = error))
process.exit = (code) => {
  if (code === 255 && running) return settle(running, uncaught || new Error('uncaught'))
  exit(code)
}
