import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connect, crowd, withTable } from './common.mjs'

const options = { timeout: 60000 }

test('errors carry their code and the connection goes on', options, () =>
  withTable((table) =>
    crowd(async (number, client) => {
      const cases = [
        ['SELECT 1/0', '22012'],
        ['SELEKT', '42601'],
        ['SELECT * FROM no_such_table', '42P01'],
        [`INSERT INTO ${table} (id) VALUES (NULL)`, '23502'],
        ["DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'ZZ001'; END $$", 'ZZ001'],
      ]
      for (const [sql, code] of cases) {
        await assert.rejects(client.query(sql), { code })
        await assert.rejects(client.query({ text: sql, values: [] }), { code })
        assert.equal((await client.query('SELECT $1::int AS v', [number])).rows[0].v, number)
      }
    }),
  ))

test('a failed transaction', options, async () => {
  const client = await connect()
  await client.query('BEGIN')
  await assert.rejects(client.query('SELECT 1/0'), { code: '22012' })
  await assert.rejects(client.query('SELECT 1'), { code: '25P02' })
  await client.query('ROLLBACK')
  assert.equal((await client.query('SELECT 1 AS v')).rows[0].v, 1)
  await client.end()
})

test('notices', options, () =>
  crowd(async (number, client) => {
    const notices = []
    client.on('notice', ({ message }) => notices.push(message))
    await client.query(`DO $$ BEGIN RAISE NOTICE 'client ${number}'; END $$`)
    assert.deepEqual(notices, [`client ${number}`])
  }))

test('a query that takes too long within a transaction', options, async () => {
  const client = await connect()
  await client.query("BEGIN; SET LOCAL statement_timeout = '100ms'")
  await assert.rejects(client.query('SELECT pg_sleep(10)'), { code: '57014' })
  await client.query('ROLLBACK')
  assert.equal((await client.query('SHOW statement_timeout')).rows[0].statement_timeout, '0')
  await client.end()
})

test('a client that vanishes leaves its server free', options, async () => {
  const clients = await Promise.all(Array.from({ length: 4 }, () => connect()))
  await Promise.all(
    clients.map(async (client) => {
      client.on('error', () => {})
      const begun = client.query('BEGIN')
      begun.catch(() => {})
      await Promise.race([begun, new Promise((resolve) => setTimeout(resolve, 300))])
      client.connection.stream.destroy()
    }),
  )
  await crowd(async (number, client) => {
    assert.equal((await client.query('SELECT $1::int AS v', [number])).rows[0].v, number)
  })
})
