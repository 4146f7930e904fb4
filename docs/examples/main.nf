// nextflow run docs/examples/main.nf --manifest cases.csv --model hippocampus --out out
//
// The shards share one run folder, so that a rerun does only the missing cases. Write a model folder
// as an absolute path: each process works in a folder of its own.
params.shards = 4
params.cpus = 4

process SHARD {
    cpus params.cpus as int
    errorStrategy 'retry'
    maxRetries 2

    input:
    val index

    output:
    val index

    script:
    """
    voxtile run "${file(params.manifest)}" "${params.model}" --out "${file(params.out)}" \\
        --shard ${index}/${params.shards} || [ \$? -eq 3 ]
    """
}

process MERGE {
    input:
    val shards

    script:
    """
    voxtile merge "${file(params.out)}" --manifest "${file(params.manifest)}" || [ \$? -eq 3 ]
    """
}

workflow {
    SHARD(channel.of(1..(params.shards as int))).collect() | MERGE
}
