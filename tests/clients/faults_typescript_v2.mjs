// Failing calls of a client on TypeScript SDK 2.x; its jobs come on standard input.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'

import { suffer } from './faults_typescript_common.mjs'
import { serve } from './typescript_common.mjs'

async function connect(url) {
  const client = new Client({ name: 'typescript-v2', version: '1' }, { versionNegotiation: { mode: 'legacy' } })
  await client.connect(new StreamableHTTPClientTransport(url))
  return client
}

serve(job => suffer(job, connect))
