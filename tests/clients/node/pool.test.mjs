import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { withTable } from './common.mjs'

const options = { timeout: 60000 }

async function withPool(settings, work) {
  const pool = new pg.Pool({ connectionTimeoutMillis: 30000, ...settings })
  try {
    return await work(pool)
  } finally {
    await pool.end()
  }
}

test('a pool of twenty and a hundred requests', options, () =>
  withTable((table) =>
    withPool({ max: 20 }, async (pool) => {
      const request = async (number) => {
        const client = await pool.connect()
        try {
          await client.query('BEGIN')
          await client.query(`INSERT INTO ${table} (value) VALUES ($1)`, [number])
          const { rows } = await client.query(`SELECT value FROM ${table} WHERE value = $1`, [number])
          assert.deepEqual(rows, [{ value: number }])
          await client.query('COMMIT')
        } catch (error) {
          await client.query('ROLLBACK')
          throw error
        } finally {
          client.release()
        }
      }
      await Promise.all(Array.from({ length: 100 }, (_, number) => request(number)))
      assert.equal((await pool.query(`SELECT count(*)::int AS n FROM ${table}`)).rows[0].n, 100)
    }),
  ))

test('named statements in a pool', options, () =>
  withPool({ max: 10 }, async (pool) => {
    const query = (number) => pool.query({ name: `q${number % 3}`, text: `SELECT $1::int * ${number % 3} AS v`, values: [number] })
    const results = await Promise.all(Array.from({ length: 200 }, (_, number) => query(number)))
    assert.deepEqual(results.map(({ rows }) => rows[0].v), results.map((_, number) => number * (number % 3)))
  }))

test('connections that are used once', options, () =>
  withPool({ max: 10, maxUses: 1 }, async (pool) => {
    const results = await Promise.all(Array.from({ length: 50 }, (_, n) => pool.query('SELECT $1::int AS v', [n])))
    assert.deepEqual(results.map(({ rows }) => rows[0].v), results.map((_, n) => n))
  }))

test('idle connections close and others follow', options, () =>
  withPool({ max: 5, idleTimeoutMillis: 50 }, async (pool) => {
    for (let round = 0; round < 5; round++) {
      assert.equal((await pool.query('SELECT 1 AS v')).rows[0].v, 1)
      await new Promise((resolve) => setTimeout(resolve, 80))
    }
  }))
