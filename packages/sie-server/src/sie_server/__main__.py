from sie_server.cli.main import main

main()
