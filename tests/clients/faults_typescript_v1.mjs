// Failing calls of a client on TypeScript SDK 1.x; its jobs come on standard input.
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'

import { suffer } from './faults_typescript_common.mjs'
import { serve } from './typescript_common.mjs'

async function connect(url) {
  const client = new Client({ name: 'typescript-v1', version: '1' })
  await client.connect(new StreamableHTTPClientTransport(url))
  return {
    callTool: (parameters, options) => client.callTool(parameters, undefined, options),
    close: () => client.close(),
  }
}

serve(job => suffer(job, connect))
