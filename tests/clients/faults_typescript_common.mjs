// What becomes of a TypeScript SDK client's calls that fail; the same on SDK 1.x and 2.x, told as in faults_python_common.py.

/** `connect(url)` gives `{ callTool, close }`. */
export async function suffer(job, connect) {
  const ends = await Promise.all(job.faults.map(fault => both(job, connect, fault)))
  return Object.fromEntries(job.faults.map((fault, number) => [fault, ends[number]]))
}

async function both(job, connect, fault) {
  const ends = []
  let client
  try {
    client = await connect(job.url)
    for (const tool of [fault, 'ok']) ends.push(await end(client, tool, job.patience * 1000))
  } catch (error) {
    while (ends.length < 2) ends.push(`torn: ${error.name}`)
  } finally {
    await client?.close().catch(() => {})
  }
  return ends
}

async function end(client, tool, timeout) {
  try {
    await client.callTool({ name: tool, arguments: {} }, { timeout })
    return 'result'
  } catch (error) {
    if (timedOut(error)) return 'hang'
    return Number.isInteger(error.code) && error.code < 0 ? `error ${error.code}` : `raised ${error.name} ${error.code ?? ''}`.trim()
  }
}

// SDK 1.x has a code of its own for its patience, 2.x a name.
const timedOut = error => error.code === -32001 || error.code === 'REQUEST_TIMEOUT'
