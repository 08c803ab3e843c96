import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connect, crowd, withTable } from './common.mjs'

const options = { timeout: 60000 }

test('simple and parameterised queries', options, () =>
  crowd(async (number, client) => {
    for (let round = 0; round < 10; round++) {
      const { rows } = await client.query('SELECT $1::int AS number, $2::text AS text', [number, `round ${round}`])
      assert.deepEqual(rows, [{ number, text: `round ${round}` }])
      assert.deepEqual((await client.query(`SELECT ${number} AS n`)).rows, [{ n: number }])
    }
  }))

test('types come back as they went', options, async () => {
  const client = await connect()
  const values = ['ü 世界', true, 1.5, ['a', 'b"', null], new Date('2024-02-29T12:00:00Z'), Buffer.from([0, 255])]
  const casts = ['text', 'bool', 'float8', 'text[]', 'timestamptz', 'bytea']
  for (const [at, value] of values.entries()) {
    const { rows } = await client.query(`SELECT $1::${casts[at]} AS v`, [value])
    assert.deepEqual(rows[0].v, value)
  }
  assert.deepEqual((await client.query('SELECT $1::jsonb AS v', [{ a: [1, null] }])).rows[0].v, { a: [1, null] })
  await client.end()
})

test('named statements of the same name for other texts', options, () =>
  crowd(async (number, client) => {
    for (let round = 0; round < 10; round++) {
      const query = { name: 'by-number', text: `SELECT ${number} * 100 + $1::int AS v`, values: [round] }
      assert.equal((await client.query(query)).rows[0].v, number * 100 + round)
    }
  }))

test('a failed named statement can be corrected', options, async () => {
  const client = await connect()
  const bad = { name: 'late', text: 'SELECT * FROM not_there_yet' }
  await assert.rejects(client.query(bad), { code: '42P01' })
  await client.query('CREATE TABLE not_there_yet (a int)')
  assert.deepEqual((await client.query(bad)).rows, [])
  await client.query('DROP TABLE not_there_yet')
  await client.end()
})

test('transactions', options, () =>
  withTable(async (table) => {
    await crowd(async (number, client) => {
      await client.query('BEGIN')
      await client.query(`INSERT INTO ${table} (value) VALUES ($1)`, [number])
      const { rows } = await client.query(`SELECT count(*)::int AS n FROM ${table} WHERE value = $1`, [number])
      assert.equal(rows[0].n, 1)
      await client.query(number % 2 ? 'COMMIT' : 'ROLLBACK')
    })
    const client = await connect()
    assert.equal((await client.query(`SELECT count(*)::int AS n FROM ${table}`)).rows[0].n, 10)
    await client.end()
  }))

test('queries that are queued without waiting', options, () =>
  crowd(async (number, client) => {
    const results = await Promise.all(
      Array.from({ length: 50 }, (_, n) => client.query('SELECT $1::int + $2::int AS v', [number, n])),
    )
    assert.deepEqual(results.map(({ rows }) => rows[0].v), Array.from({ length: 50 }, (_, n) => number + n))
  }))

test('several statements in one', options, async () => {
  const client = await connect()
  const results = await client.query('SELECT 1 AS a; SELECT 2 AS b; SELECT 3 AS c')
  assert.deepEqual(results.map(({ rows }) => rows[0]), [{ a: 1 }, { b: 2 }, { c: 3 }])
  await client.end()
})

test('a hundred thousand rows', options, () =>
  crowd(async (number, client) => {
    const { rows } = await client.query('SELECT i FROM generate_series(1, 20000) i')
    assert.equal(rows.length, 20000)
  }, 5))

test('a value of eight megabytes', options, async () => {
  const client = await connect()
  const text = 'x'.repeat(8 << 20)
  assert.equal((await client.query('SELECT $1::text AS v', [text])).rows[0].v, text)
  await client.end()
})

test('rows as they come, without a cursor', options, () =>
  crowd(async (number, client) => {
    const { default: pg } = await import('pg')
    const query = client.query(new pg.Query('SELECT i FROM generate_series(1, 5000) i'))
    let sum = 0
    query.on('row', (row) => (sum += row.i))
    await new Promise((resolve, reject) => query.on('end', resolve).on('error', reject))
    assert.equal(sum, (5000 * 5001) / 2)
  }))

test('the settings of the connection', options, async () => {
  const client = await connect({ application_name: 'node program' })
  assert.equal((await client.query('SHOW application_name')).rows[0].application_name, 'node program')
  await client.end()
})
