// What the programs share; the PG* variables say where to connect.
import pg from 'pg'

export const CLIENTS = 20

export async function connect(options = {}) {
  const client = new pg.Client({ connectionTimeoutMillis: 20000, ...options })
  await client.connect()
  return client
}

// Runs work(number, client) for many clients at once.
export async function crowd(work, clients = CLIENTS) {
  const all = Array.from({ length: clients }, async (_, number) => {
    const client = await connect()
    try {
      return await work(number, client)
    } finally {
      await client.end()
    }
  })
  return Promise.all(all)
}

let tables = 0

// A table of this test's own.
export async function withTable(work) {
  const name = `n_${process.pid}_${tables++}`
  const client = await connect()
  await client.query(`CREATE TABLE ${name} (id serial PRIMARY KEY, name text, value int)`)
  try {
    return await work(name)
  } finally {
    await client.query(`DROP TABLE ${name}`)
    await client.end()
  }
}
