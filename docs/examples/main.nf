// nextflow run docs/examples/main.nf --manifest cases.csv --model hippocampus --out out
//
// The shards share one run folder, so that a rerun does only the missing cases.
params.shards = 4

process SHARD {
    cpus 4
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
    SHARD(Channel.of(1..params.shards)).collect() | MERGE
}
